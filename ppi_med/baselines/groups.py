"""The group of each sample: its site, its label, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import Tensor

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

    Args:
        engine: the trainer, whose batch names the sites.
        output: output of the step.
        grouping: which grouping.

    Raises:
        KeyError: where the batch does not name the sites.
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
