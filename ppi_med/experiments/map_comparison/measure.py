"""What is measured of one method's maps on a batch, and how it is written down."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppi_med.evaluation.faithfulness import TOP_K, deletion_curve, insertion_curve
from ppi_med.evaluation.localisation import energy_inside, pointing_game
from ppi_med.evaluation.measures import MapMethod, pixel_values, ranks
from ppi_med.evaluation.sanity import rank_correlation

# Those of Figure 5, and two on the way to all of 224 x 224.
COUNTS = (*TOP_K, 25000)
TOP = 1000
AGREEMENT, ENERGY_TOP, ENERGY_ALL, POINTING, BOX = (
    "agreement",
    "energy_top",
    "energy_all",
    "pointing",
    "box_share",
)
SINGLE = (AGREEMENT, ENERGY_TOP, ENERGY_ALL, POINTING, BOX)


def measure(
    network: nn.Module,
    method: MapMethod,
    reference: MapMethod,
    image: Tensor,
    target: Tensor,
    mask: Tensor,
) -> dict[str, Tensor]:
    """Return curves ``(N, K)`` and single values ``(N,)`` of a method's maps, by name.

    A map is summed over channels. Pixels are ordered by that sum, equal ones at random; energy is
    its positive part, NaN where nothing is positive.

    Args:
        network: in evaluation mode.
        method: under test.
        reference: its maps' rank correlation with the method's is the agreement.
        image: prepared images ``(N, C, H, W)``.
        target: class indices ``(N,)``.
        mask: inside the box, ``(N, H, W)``.
    """
    values = pixel_values(method(network, image, target))
    expected = pixel_values(reference(network, image, target))
    order = untied(values)
    removed = deletion_curve(network, image, target, order, counts=COUNTS).scores
    shown = insertion_curve(network, image, target, order, counts=COUNTS).scores
    energy = values.clamp(min=0)
    top = ranks(order) < TOP
    return {
        # All pixels removed is none shown, and the other way round.
        "deletion": torch.cat([removed, shown[:, :1]], 1),
        "insertion": torch.cat([shown, removed[:, :1]], 1),
        AGREEMENT: rank_correlation(values, expected),
        ENERGY_TOP: energy_inside(energy * top, mask),
        ENERGY_ALL: energy_inside(energy, mask),
        POINTING: pointing_game(values, mask),
        BOX: mask.flatten(1).double().mean(1),
    }


def untied(values: Tensor, seed: int = 0) -> Tensor:
    """Return values in the same order without ties, which are broken at random, by the seed.

    Otherwise the pixels of a map that is 0 in most places would be removed from the top row on.

    Examples:
        >>> untied(torch.tensor([[3.0, 1.0, 2.0]])).tolist()
        [[-0.0, -2.0, -1.0]]
    """
    flat = values.flatten(1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    order = order.to(flat.device)
    place = torch.empty_like(flat)
    place[:, order] = -ranks(flat[:, order]).to(flat.dtype)
    return place.view(values.shape)


def columns(pixels: int) -> list[str]:
    """Return the names of the columns of a written line.

    Examples:
        >>> columns(224 * 224)[:3]
        ['deletion_0', 'deletion_100', 'deletion_500']
    """
    counts = [0, *(count for count in COUNTS if count < pixels), pixels]
    curves = [f"{kind}_{count}" for kind in ("deletion", "insertion") for count in counts]
    return [*curves, *SINGLE]


def lines(found: dict[str, Tensor]) -> list[str]:
    """Return one line an image: numbers with commas between, nothing for NaN."""
    curves = torch.cat([found["deletion"], found["insertion"]], 1)
    single = torch.stack([found[name].to(curves.dtype) for name in SINGLE], 1)
    return [",".join(_number(v) for v in row) for row in torch.cat([curves, single], 1).tolist()]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.4f}".rstrip("0").rstrip(".")


def parsed(text: Sequence[str]) -> list[list[float]]:
    """Return the numbers of written lines."""
    return [[float(v) if v else float("nan") for v in line.split(",")] for line in text]
