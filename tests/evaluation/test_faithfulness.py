"""Curves against loops over images and pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppi_med.evaluation.faithfulness import (
    DELETION,
    INSERTION,
    deletion_curve,
    insertion_curve,
    random_values,
)
from ppi_med.evaluation.measures import (
    class_logit,
    class_probability,
    pixel_values,
    ranks,
)


def setting(spatial: tuple[int, ...] = (5, 4), classes: int = 3) -> tuple[Any, Tensor, Tensor]:
    torch.manual_seed(0)
    image = torch.randn(4, 2, *spatial).double()
    network = nn.Sequential(nn.Flatten(), nn.Linear(image[0].numel(), classes)).double()
    return network, image, torch.tensor([0, 1, 1, 0]) if classes < 3 else torch.tensor([0, 1, 2, 0])


def slow_curve(
    network: Any, start: Tensor, end: Tensor, target: Tensor, values: Tensor, counts: list[int]
) -> Tensor:
    """One image and one pixel at a time."""
    rows = []
    for i in range(len(start)):
        order = sorted(range(values[i].numel()), key=lambda j: (-float(values[i].flatten()[j]), j))
        row = []
        for count in counts:
            altered = start[i].clone().flatten(1)
            for j in order[:count]:
                altered[:, j] = end[i].flatten(1)[:, j]
            logits = network(altered.view(1, *start[i].shape))[0]
            row.append(float(logits.softmax(0)[target[i]].detach()))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("spatial", [(11,), (5, 4), (3, 2, 4)])
@pytest.mark.parametrize("fill", [0.0, 0.7, torch.negative])
def test_curves_pixel_by_pixel(spatial: tuple[int, ...], fill: Any) -> None:
    network, image, target = setting(spatial)
    values = pixel_values(image).round()  # with ties
    counts = [2, 1, 7, 10_000]
    filled = fill(image) if callable(fill) else torch.full_like(image, fill)
    curve = deletion_curve(network, image, target, values, counts=counts, fill=fill)
    expected = slow_curve(network, image, filled, target, values, [0, 1, 2, 7])
    assert curve.counts == (0, 1, 2, 7) and curve.measure is DELETION
    assert torch.allclose(curve.scores, expected, rtol=1e-12)
    curve = insertion_curve(network, image, target, values, counts=counts, fill=fill)
    expected = slow_curve(network, filled, image, target, values, [0, 1, 2, 7])
    assert curve.measure is INSERTION and torch.allclose(curve.scores, expected, rtol=1e-12)
    area = [np.trapezoid(row, [0, 1, 2, 7]) / 7 for row in expected.numpy()]
    assert np.allclose(curve.area(), area)
    assert torch.allclose(curve.change()[:, 3], expected[:, 0] - expected[:, 3])


def test_the_true_map_beats_chance_and_the_wrong_way_round() -> None:
    torch.manual_seed(0)
    image = torch.rand(8, 1, 6, 6)
    weight = torch.randn(6, 6)

    def network(x: Tensor) -> Tensor:
        return (x[:, 0] * weight).sum((1, 2))

    target, values = torch.ones(8).long(), image[:, 0] * weight
    areas = [
        float(
            deletion_curve(network, image, target, v, counts=range(1, 37), score=class_logit)
            .area()
            .mean()
        )
        for v in (values, random_values(image, 0), -values)
    ]
    assert areas[0] < areas[1] < areas[2]
    assert DELETION.better(areas[0], than=areas[1])
    assert not INSERTION.better(areas[0], than=areas[1])


def test_random_baseline_has_a_seed_of_its_own() -> None:
    image = torch.zeros(2, 3, 4, 5)
    state = torch.random.get_rng_state()
    a, b = random_values(image, 1), random_values(image, 1)
    assert torch.equal(a, b) and a.shape == (2, 4, 5)
    assert not torch.equal(a, random_values(image, 2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_scores() -> None:
    output = torch.tensor([[1.0, 3.0], [0.0, -1.0]])
    target = torch.tensor([1, 1])
    assert class_logit(output, target).tolist() == [3.0, -1.0]
    assert class_probability(output, target)[0].item() == pytest.approx(1 / (1 + math.exp(-2)))
    one = torch.tensor([[2.0], [2.0]])
    assert class_logit(one, torch.tensor([1, 0])).tolist() == [2.0, -2.0]
    assert class_probability(one, torch.tensor([1, 0])).sum().item() == pytest.approx(1.0)


def test_wrong_input_is_refused() -> None:
    network, image, target = setting()
    with pytest.raises(ValueError, match="reduce maps by pixel_values"):
        deletion_curve(network, image, target, image)
    with pytest.raises(ValueError, match="outside of 1 to 20"):
        deletion_curve(network, image, target, image[:, 0], counts=[21])
    with pytest.raises(ValueError, match="NaN"):
        ranks(torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(ValueError, match="reduce is 'mean'"):
        pixel_values(image, "mean")
    with pytest.raises(ValueError, match="expected one shape"):
        deletion_curve(network, image, target, image[:, 0], counts=[1], fill=lambda x: x[:1])
