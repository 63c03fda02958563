"""Partners x_j for x' = x - T(s(x_j)) . x, drawn within the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.intervention.numeric import choose
from ppi_med.intervention.randomness import random_cycle

PAIRINGS = ("any", "same_class", "other_class")


def draw_partners(
    kind: str,
    size: int,
    generator: torch.Generator,
    classes: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw a partner for each sample of a batch.

    - `any`: one random cycle through the batch; each sample is a partner once.
    - `same_class`: one random cycle through each class.
    - `other_class`: uniform among the samples of other classes, independently (no permutation
      exists where one class holds more than half of the batch).

    A sample with no partner of the wanted kind (the only one of its class; a batch of one class)
    gets any other sample. No sample is its own partner, except in a batch of one.

    Args:
        kind: `any`, `same_class` or `other_class`.
        size: N, the number of samples.
        generator: a CPU generator; each call draws the same amount, whatever the classes.
        classes: `(N,)` int64, needed by the last two kinds.
        device: device of the result; default that of `classes`, else the CPU.

    Returns:
        `(N,)` int64.

    Raises:
        ValueError: unknown kind, or classes that are missing or not `(N,)`.

    Examples:
        >>> classes = torch.tensor([0, 1, 0, 1])
        >>> partner = draw_partners("same_class", 4, torch.Generator().manual_seed(0), classes)
        >>> partner.tolist()
        [2, 3, 0, 1]
    """
    choose("pairing", kind, PAIRINGS)
    if device is None:
        device = "cpu" if classes is None else classes.device
    any_other = random_cycle(size, generator).to(device, non_blocking=True)
    if kind == "any":
        return any_other
    if classes is None or classes.shape != (size,):
        got = None if classes is None else tuple(classes.shape)
        raise ValueError(f"pairing {kind!r} needs the class of each of {size} samples, got {got}.")
    classes = classes.to(device)
    if kind == "same_class":
        order = torch.randperm(size, generator=generator).to(device, non_blocking=True)
        return _same_class(classes, order, any_other)
    score = torch.rand(size, size, generator=generator).to(device, non_blocking=True)
    return _other_class(classes, score, any_other)


def _same_class(classes: Tensor, order: Tensor, any_other: Tensor) -> Tensor:
    """Chain the samples of each class, in a random order, to a cycle."""
    order = order[classes[order].argsort(stable=True)]
    ordered = classes[order]
    place = torch.arange(len(order), device=order.device)
    changes = ordered[1:] != ordered[:-1]
    first = torch.cat([changes.new_ones(1), changes])
    last = torch.cat([changes, changes.new_ones(1)])
    start_of_class = torch.where(first, place, 0).cummax(0).values
    following = torch.where(last, start_of_class, place + 1)
    partner = torch.empty_like(order)
    partner[order] = order[following]
    return torch.where(partner == place, any_other, partner)


def _other_class(classes: Tensor, score: Tensor, any_other: Tensor) -> Tensor:
    """Take the highest of random scores among the samples of other classes."""
    other = classes[:, None] != classes[None, :]
    best = score.masked_fill(~other, -1.0).argmax(1)
    return torch.where(other.any(1), best, any_other)
