"""IRM: one classifier that is optimal at every site at once."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.baselines.base import Baseline
from ppi_med.baselines.group_dro import check_grouping, groups_of
from ppi_med.intervention import log_prob_y
from ppi_med.intervention.numeric import at_least_float32
from ppi_med.saliency import primary_logits


class IRM(Baseline):
    """Invariant risk minimisation, IRMv1 (Arjovsky et al., arXiv 1907.02893).

    L = mean_e L_e + weight mean_e (d L_e(w f) / d w at w = 1)^2 over the environments e of a batch,
    divided by the weight if that is above 1, so that gradients keep their size. In the first epochs
    the weight is 1.

    Args:
        weight: weight of the penalty.
        warm_up_epochs: epochs with weight 1.
        groups: what an environment is: `site` (default), `label` or `site_and_label`. With
            one training site there is one environment.

    Examples:
        >>> IRM(weight=10.0).grouping
        'site'
    """

    def __init__(
        self, weight: float = 100.0, warm_up_epochs: int = 5, groups: str = "site"
    ) -> None:
        super().__init__()
        if weight < 0 or warm_up_epochs < 0:
            raise ValueError(
                f"weight is {weight} and warm_up_epochs {warm_up_epochs}, expected 0 or more."
            )
        self.weight = weight
        self.warm_up_epochs = warm_up_epochs
        self.grouping = check_grouping(groups)

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with its penalty, and the penalty."""
        logits = at_least_float32(primary_logits(output[CommonKeys.PRED]))
        label = output[CommonKeys.LABEL]
        names = groups_of(engine, output, self.grouping)
        scale = torch.ones((), device=logits.device, dtype=logits.dtype, requires_grad=True)
        losses = -log_prob_y(logits * scale, label)
        risks, penalties = [], []
        for name in sorted(set(names)):
            members = torch.tensor([other == name for other in names], device=losses.device)
            risk = losses[members].mean()
            (slope,) = torch.autograd.grad(risk, scale, create_graph=True)
            risks.append(risk)
            penalties.append(slope.square())
        weight = 1.0 if engine.state.epoch <= self.warm_up_epochs else self.weight
        penalty = torch.stack(penalties).mean()
        total = torch.stack(risks).mean() + weight * penalty
        return total / max(weight, 1.0), {"irm_penalty": penalty}
