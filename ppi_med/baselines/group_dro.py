"""GroupDRO: the group with the highest loss counts most; groups are sites, labels or both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.baselines.base import Baseline, losses_by_sample
from ppi_med.intervention import class_index
from ppi_med.saliency import primary_logits

Grouping = Literal["site", "label", "site_and_label"]


def check_grouping(grouping: str) -> Grouping:
    """Return the name of a grouping.

    Raises:
        ValueError: if there is no grouping of that name.
    """
    if grouping not in get_args(Grouping):
        raise ValueError(f"groups is {grouping!r}, expected one of {get_args(Grouping)}.")
    return grouping  # type: ignore[return-value]


def groups_of(engine: Engine, output: Mapping[str, Any], grouping: Grouping) -> list[str]:
    """Return the name of each sample's group.

    Raises:
        KeyError: if the batch does not name the sites.
    """
    logits = primary_logits(output[CommonKeys.PRED])
    count = 1 if logits.ndim == 1 else int(logits.shape[1])
    labels = class_index(output[CommonKeys.LABEL], count).tolist()
    if grouping == "label":
        return [str(label) for label in labels]
    batch: Any = engine.state.batch
    if not isinstance(batch, Mapping) or "site" not in batch:
        raise KeyError(
            "The batch has no 'site', which groups are made of: keep it in the datalist and in "
            "the transforms, or use groups='label'."
        )
    sites = [str(site) for site in batch["site"]]
    if grouping == "site":
        return sites
    return [f"{site}/{label}" for site, label in zip(sites, labels, strict=True)]


def mean_by_group(losses: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Return the mean of each group that is there, in the order of the names.

    Examples:
        >>> mean_by_group(torch.tensor([1.0, 2.0, 4.0]), ["b", "a", "a"])
        {'a': tensor(3.), 'b': tensor(1.)}
    """
    found = {}
    for name in sorted(set(names)):
        members = torch.tensor([other == name for other in names], device=losses.device)
        found[name] = losses[members].mean()
    return found


class GroupDRO(Baseline):
    """Distributionally robust training over groups (Sagawa et al., ICLR 2020, Algorithm 1).

    The loss of a step is sum_g q_g L_g; before it, q_g is multiplied by exp(step_size L_g) and
    all are divided by their sum. A group that a batch lacks keeps its weight before the division.
    If several processes train, each weights the groups of its own share.

    Args:
        step_size: step size of the weights, 0.01 as published.
        groups: `site_and_label` (default), `site` or `label`; with one training site, groups
            by site alone would be plain training.

    Examples:
        >>> GroupDRO().state_dict()
        {'weights': {}}
    """

    def __init__(self, step_size: float = 0.01, groups: str = "site_and_label") -> None:
        super().__init__()
        if not step_size > 0:
            raise ValueError(f"step_size is {step_size}, expected above 0.")
        self.step_size = step_size
        self.grouping = check_grouping(groups)
        self.weights: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the groups."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.weights = dict(state["weights"])

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and the loss of the worst group."""
        found = mean_by_group(losses_by_sample(output), groups_of(engine, output, self.grouping))
        # All are equal at first; a later group starts with the mean of the known ones.
        start = sum(self.weights.values()) / len(self.weights) if self.weights else 1.0
        for name, value in found.items():
            weight = self.weights.get(name, start)
            self.weights[name] = weight * math.exp(self.step_size * float(value.detach()))
        total = sum(self.weights.values())
        self.weights = {name: weight / total for name, weight in self.weights.items()}
        losses = torch.stack(list(found.values()))
        weights = losses.new_tensor([self.weights[name] for name in found])
        return (weights * losses).sum(), {"worst_group": losses.max()}
