"""Right for the right reasons: no gradient outside the lesion. It sees lesion masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.baselines.base import Baseline, log_probabilities
from ppi_med.saliency import primary_logits

WithoutLesion = Literal["free", "everywhere"]


class RightReasons(Baseline):
    """Right for the right reasons (Ross et al., IJCAI 2017): an upper bound that sees the masks.

    L = L_cls + weight mean_i sum_d (A_id d(sum_k log p_k) / dx_id)^2, with A = 1 outside the
    lesion.

    Args:
        weight: weight of the gradients.
        key: key of the lesion masks in the batch, shaped like the image; above 0 is lesion.
        without_lesion: an image without lesion may have gradients anywhere (`free`, default), or
            nowhere (`everywhere` is penalised).

    Examples:
        >>> RightReasons(weight=5.0).key
        'lesion'
    """

    uses_inferer = True

    def __init__(
        self, weight: float = 10.0, key: str = "lesion", without_lesion: str = "free"
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight is {weight}, expected 0 or more.")
        if without_lesion not in get_args(WithoutLesion):
            raise ValueError(
                f"without_lesion is {without_lesion!r}, expected one of {get_args(WithoutLesion)}."
            )
        self.weight = weight
        self.key = key
        self.without_lesion = without_lesion

    def prepare(self, image: Tensor) -> Tensor:
        """Return the images as leaves that gradients are taken of."""
        return image.detach().requires_grad_()

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with its penalty, and the penalty."""
        image = self.seen.image
        if image is None:
            raise RuntimeError("no forward has been seen in this step")
        outside = self._outside(engine.state.batch, image)
        logits = primary_logits(output[CommonKeys.PRED])
        (slope,) = torch.autograd.grad(
            sum_of_log_probabilities(logits).sum(), image, create_graph=True
        )
        penalty = (slope.as_subclass(Tensor) * outside).square().flatten(1).sum(1).mean()
        return output[CommonKeys.LOSS] + self.weight * penalty, {"right_reasons": penalty}

    def _outside(self, batch: Any, image: Tensor) -> Tensor:
        if not isinstance(batch, Mapping) or self.key not in batch:
            raise KeyError(
                f"The batch has no {self.key!r}: right_reasons sees lesion masks in training; add "
                "the bundle's lesions.json to --config_file."
            )
        lesion = batch[self.key].as_subclass(Tensor).to(image.device) > 0
        if lesion.shape != image.shape:
            raise ValueError(
                f"{self.key} has shape {tuple(lesion.shape)}, expected the image's, "
                f"{tuple(image.shape)}."
            )
        outside = (~lesion).to(image.dtype)
        if self.without_lesion == "free":
            there = lesion.flatten(1).any(1).view(-1, *[1] * (image.ndim - 1))
            outside = outside * there
        found: Tensor = outside.as_subclass(Tensor)
        return found


def sum_of_log_probabilities(logits: Tensor) -> Tensor:
    """Return sum_k log p_k of each sample, `(N,)`; of a single logit both classes count.

    Examples:
        >>> sum_of_log_probabilities(torch.zeros(1, 1)).exp().item()
        0.25
    """
    return log_probabilities(logits).sum(1)
