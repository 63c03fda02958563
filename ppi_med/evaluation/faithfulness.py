"""Whether the score follows the map: deletion and insertion curves (Figure 5), and their baseline.

The pixels of a map are removed or shown, highest first. All images of a batch are altered together
on their device; a curve of K counts costs K forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ppi_med.evaluation.measures import Measure, Network, Score, class_probability, ranks

# The counts of Figure 5.
TOP_K = (100, 500, 1000, 5000, 10000)
DELETION = Measure("deletion", -1)
INSERTION = Measure("insertion", 1)
REDUCTION = Measure("reduction", 1)

Fill = float | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Curve:
    """Scores of altered images.

    Attributes:
        measure: name and direction of the area.
        counts: pixels that were removed or shown, ascending, the first 0.
        pixels: pixels of an image.
        scores: `(N, K)`, one per count.
    """

    measure: Measure
    counts: tuple[int, ...]
    pixels: int
    scores: Tensor

    def area(self) -> Tensor:
        """Return the mean height `(N,)` over the share of pixels that was altered."""
        width = torch.as_tensor(self.counts, dtype=self.scores.dtype, device=self.scores.device)
        return torch.trapezoid(self.scores, width, dim=1) / (width[-1] - width[0])

    def change(self) -> Tensor:
        """Return the loss of score since the first count, `(N, K)`; below 0 it is a gain."""
        return self.scores[:, :1] - self.scores


def deletion_curve(
    network: Network,
    image: Tensor,
    target: Tensor,
    values: Tensor,
    *,
    counts: Sequence[int] = TOP_K,
    fill: Fill = 0.0,
    score: Score = class_probability,
) -> Curve:
    """Remove the highest pixels and measure the score: the faster it falls the better.

    `curve.change()` is the reduction of the score of Figure 5.

    Args:
        network: from images to logits; the caller chooses its mode.
        image: `(N, C, *spatial)`.
        target: class indices `(N,)`.
        values: `(N, *spatial)`, see `pixel_values`.
        counts: numbers of pixels; those beyond the image are left out, 0 is added.
        fill: what removed pixels become: a number (default 0), or a function from the images to
            images of the same shape.
        score: from output and target to `(N,)` (default the target's probability).

    Returns:
        The curve.

    Raises:
        ValueError: if shapes do not fit.

    Examples:
        >>> image = torch.tensor([[[[3.0, 1.0]]]])
        >>> curve = deletion_curve(
        ...     lambda x: x.sum((1, 2, 3)), image, torch.tensor([1]), image[:, 0],
        ...     counts=[1, 2], score=lambda output, _: output,
        ... )
        >>> curve.scores.tolist()
        [[4.0, 1.0, 0.0]]
    """
    place, kept = _places(image, values), _counts(values, counts)
    filled = filled_with(image, fill)
    return _curve(DELETION, network, image, filled, target, place, kept, score)


def insertion_curve(
    network: Network,
    image: Tensor,
    target: Tensor,
    values: Tensor,
    *,
    counts: Sequence[int] = TOP_K,
    fill: Fill = 0.0,
    score: Score = class_probability,
) -> Curve:
    """Show the highest pixels on an empty image: the faster the score rises the better.

    Arguments as of `deletion_curve`; `fill` is the image they are shown on.
    """
    place, kept = _places(image, values), _counts(values, counts)
    return _curve(INSERTION, network, filled_with(image, fill), image, target, place, kept, score)


def random_values(image: Tensor, seed: int) -> Tensor:
    """Return random values `(N, *spatial)`: the baseline that removes pixels at random.

    Args:
        image: `(N, C, *spatial)`.
        seed: seed of the values, drawn on the CPU, so that they are the same on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (image.shape[0], *image.shape[2:])
    return torch.rand(shape, generator=generator).to(image.device)


def filled_with(image: Tensor, fill: Fill) -> Tensor:
    """Return the values that removed pixels of `image` get."""
    filled = fill(image) if callable(fill) else torch.full_like(image, fill)
    if filled.shape != image.shape:
        raise ValueError(
            f"fill gave {tuple(filled.shape)} for images {tuple(image.shape)}, expected one shape"
        )
    return filled


@torch.no_grad()
def _curve(
    measure: Measure,
    network: Network,
    start: Tensor,
    end: Tensor,
    target: Tensor,
    place: Tensor,
    counts: tuple[int, ...],
    score: Score,
) -> Curve:
    found = []
    for count in counts:
        altered = torch.where(place.unsqueeze(1) < count, end, start)
        found.append(score(network(altered), target))
    return Curve(measure, counts, place[0].numel(), torch.stack(found, 1))


def _places(image: Tensor, values: Tensor) -> Tensor:
    if values.shape != (image.shape[0], *image.shape[2:]):
        raise ValueError(
            f"values have shape {tuple(values.shape)} for images {tuple(image.shape)}, expected "
            "(N, *spatial): reduce maps by pixel_values first"
        )
    return ranks(values)


def _counts(values: Tensor, counts: Sequence[int]) -> tuple[int, ...]:
    pixels = values[0].numel()
    kept = sorted({int(count) for count in counts if 0 < count <= pixels})
    if not kept:
        raise ValueError(
            f"counts {list(counts)} are all outside of 1 to {pixels}, the pixels of an image"
        )
    return (0, *kept)
