"""Localisation against loops, and at the edges: empty masks, ties, constant maps."""

from __future__ import annotations

import math

import pytest
import torch

from ppi_med.evaluation import localisation as l10n


@pytest.mark.parametrize("spatial", [(13,), (5, 6), (3, 4, 2)])
@pytest.mark.parametrize("top", [None, 1, 3, 1000])
def test_energy_pixel_by_pixel(spatial: tuple[int, ...], top: int | None) -> None:
    torch.manual_seed(0)
    values = (4 * torch.rand(5, *spatial)).round().double()
    mask = torch.rand(5, *spatial) < 0.4
    got = l10n.energy_inside(values, mask, top)
    for i in range(5):
        flat, inside = values[i].flatten().tolist(), mask[i].flatten().tolist()
        order = sorted(range(len(flat)), key=lambda j: (-flat[j], j))[:top]
        expected = sum(flat[j] for j in order if inside[j]) / sum(flat[j] for j in order)
        assert got[i].item() == pytest.approx(expected)


def test_energy_of_nothing_is_not_a_number() -> None:
    assert math.isnan(l10n.energy_inside(torch.zeros(1, 3), torch.ones(1, 3).bool()).item())
    with pytest.raises(ValueError, match="values below 0"):
        l10n.energy_inside(torch.tensor([[-1.0]]), torch.ones(1, 1).bool())
    with pytest.raises(ValueError, match="at least one point"):
        l10n.top_points(torch.ones(1, 3), 0)


def test_pointing_game() -> None:
    values = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    mask = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]]).bool()
    got = l10n.pointing_game(values, mask)
    assert got.tolist() == [1.0, 0.5, pytest.approx(2 / 3), 0.0]


@pytest.mark.parametrize("spatial", [(7,), (5, 6), (3, 4, 5)])
def test_boxes(spatial: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    d = len(spatial)
    low = torch.stack([torch.randint(0, n, (8,)) for n in spatial], 1)
    boxes = torch.cat([low, low + torch.randint(0, 4, (8, d))], 1)
    mask = l10n.box_mask(boxes, spatial)
    for i in range(8):
        expected = torch.zeros(spatial).bool()
        expected[tuple(slice(int(boxes[i, a]), int(boxes[i, d + a])) for a in range(d))] = True
        assert torch.equal(mask[i], expected)
    with pytest.raises(ValueError, match="expected"):
        l10n.box_mask(boxes[:, 1:], spatial)


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        l10n.pointing_game(torch.ones(2, 3), torch.ones(2, 4).bool())
    with pytest.raises(ValueError, match="expected boolean"):
        l10n.pointing_game(torch.ones(2, 3), torch.ones(2, 3))


def test_directions() -> None:
    for measure in (l10n.ENERGY, l10n.POINTING):
        assert measure.better(0.6, than=0.5)
        assert measure.better(0.1, than=math.nan) and not measure.better(math.nan, than=0.1)
