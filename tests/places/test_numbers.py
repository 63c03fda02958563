"""Map, place and judgement against slower, obviously right calculations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.places import (
    ImageStack,
    Partners,
    constancy,
    difference_map,
    exchanged,
    judge_place,
    top_place,
)
from ppi_med.places.judge import discriminant, verdict
from ppi_med.saliency import WBP
from tests.places.phantom import MARK, images, volumes


def test_difference_map_is_its_formula_image_by_image() -> None:
    torch.manual_seed(0)
    stack = volumes(8, 1.0, 0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1)
    ).eval()
    found = difference_map(network, stack, every=2, batch_size=5)
    total, count = torch.zeros(24, 24, dtype=torch.float64), 0
    for x, label, position in zip(stack.image, stack.label, stack.position, strict=True):
        if position % 2:
            continue
        mean = stack.image[stack.label != label].mean(0)
        s = WBP()(network, x[None], int(label))[0]
        weight = torch.where(x.abs() > 1e-3, s / x, 0.0)
        total += (weight * (x - mean) / s.abs().sum()).sum(0)
        count += 1
    expected = gaussian_smooth((total / count)[None, None], 1.0)[0, 0].clamp_min(0)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_difference_map_is_the_loss_of_an_exchange_on_a_linear_network() -> None:
    """Where the network is linear, the first order is all there is."""
    torch.manual_seed(1)
    stack = volumes(20, 1.0, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(24 * 24, 1, bias=False)).eval()
    weight = network[1].weight.detach().view(24, 24)
    index = stack.label == 1
    mean = stack.image[stack.label == 0].mean(0)
    lost = (weight * (stack.image[index] - mean)[:, 0]).sum((1, 2))
    drop = network(stack.image[index])[:, 0] - network(mean[None])[0, 0]
    assert torch.allclose(lost, drop.detach(), atol=1e-4)


def test_top_place_takes_the_top_and_grows_it() -> None:
    m = torch.zeros(40, 40)
    m[10, 10], m[10, 11], m[30, 30] = 1.0, 0.5, 0.1
    place = top_place(m, share=0.01, relative=0.15, grow=2)
    rows, columns = place.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 12, 8, 13)
    again = top_place(m, share=0.01, relative=0.15, grow=2, without=place)
    assert again[30, 30] and not (again & place).any()
    assert not top_place(torch.zeros(8, 8)).any()


def test_discriminant_is_sklearns_with_the_same_shrinkage() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    x = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + label[:, None] * [1, 0, 0.5, 0, 0]
    weights, offsets = discriminant(torch.from_numpy(x), torch.from_numpy(label), 2)
    within = np.concatenate([x[label == k] - x[label == k].mean(0) for k in (0, 1)])
    trace = np.trace(within.T @ within / 198) / 5

    # sklearn's solver 'lsqr' with a covariance estimator of the same form
    class Shrunk:
        def fit(self, values):
            self.covariance_ = np.cov(values.T, bias=True) + 0.1 * trace * np.eye(5)
            return self

    theirs = LinearDiscriminantAnalysis("lsqr", covariance_estimator=Shrunk()).fit(x, label)
    ours = (torch.from_numpy(x) @ weights + offsets)[:, 0].numpy()
    assert np.corrcoef(ours, theirs.decision_function(x))[0, 1] > 0.9999


def test_verdict_is_auc_of_means_and_share_of_variance() -> None:
    stack = volumes(12, None, 3)
    scores = torch.randn(len(stack.image), 1, generator=torch.Generator().manual_seed(0))
    scores += 2.0 * stack.label[:, None]
    found = verdict(stack, scores)
    means = [float(scores[stack.unit == u].mean()) for u in range(12)]
    assert found.auc == pytest.approx(roc_auc_score(np.arange(12) % 2, means))
    assert found.icc == pytest.approx(np.var(means) / np.var(scores.numpy()), rel=1e-6)
    assert verdict(stack, torch.zeros(len(stack.image), 1)).j == 0


def test_a_mark_is_judged_an_artefact_and_a_lesion_is_not() -> None:
    train, validation = volumes(60, 1.0, 0), volumes(40, 1.0, 1)
    mark = torch.zeros(24, 24, dtype=torch.bool)
    mark[MARK] = True
    lesion = torch.zeros(24, 24, dtype=torch.bool)
    lesion[8:20, 4:14] = True
    assert judge_place(train, validation, mark).j > 0.9
    assert judge_place(train, validation, lesion).j < 0.25


def test_constancy_of_marks_and_of_lesions() -> None:
    stack = images(300, 0.9, 0)
    mark = torch.zeros(24, 24, dtype=torch.bool)
    mark[MARK] = True
    lesion = torch.zeros(24, 24, dtype=torch.bool)
    lesion[9:15, 9:15] = True
    assert constancy(stack, mark) > 0.9
    assert constancy(stack, lesion) < 0.1


def test_partners_are_of_another_class_and_the_same_position() -> None:
    stack = volumes(10, 1.0, 0)
    index = torch.arange(len(stack.image))
    for same in (False, True):
        drawn = Partners(stack, same).draw(index, torch.Generator().manual_seed(1))
        assert ((stack.label[drawn] == stack.label) == same).all()
        assert (stack.position[drawn] == stack.position).all()


def test_exchanged_changes_the_place_alone() -> None:
    x, other = torch.rand(3, 2, 6, 6), torch.rand(3, 2, 6, 6)
    place = torch.zeros(6, 6, dtype=torch.bool)
    place[1:3, 2:5] = True
    made = exchanged(x, place, other)
    assert torch.equal(made[:, :, place], other[:, :, place])
    assert torch.equal(made[:, :, ~place], x[:, :, ~place])


def test_constancy_of_thin_strokes_that_blend_with_varying_ground() -> None:
    """In a smaller image a stroke is half letter, half ground: its spread is half, not nothing."""
    generator = torch.Generator().manual_seed(3)
    count = 120
    ground = torch.rand(count, 1, 6, 6, generator=generator)
    ground = torch.nn.functional.interpolate(ground, (48, 48), mode="bilinear")
    label = torch.arange(count) % 2
    index = torch.arange(count)
    place = torch.zeros(48, 48, dtype=torch.bool)
    place[2:16, 2:16] = True
    strokes = torch.zeros(48, 48)
    strokes[4:14:4, 4:14] = 0.5
    blended = ground * (1 - strokes) + 1.5 * strokes
    # Where eight of ten agree, the classes' medians still differ.
    agreeing = torch.rand(count, generator=generator) < 0.8
    for holds in (label == 1, (label == 1) == agreeing):
        image = torch.where(holds.view(-1, 1, 1, 1), blended, ground)
        assert constancy(ImageStack(image, label, index, 0 * index), place) > 0.9
    # A bright blob in one class, elsewhere in each image, is a lesion.
    lesion = ground.clone()
    for k in torch.nonzero(label == 1).flatten().tolist():
        row, column = torch.randint(2, 10, (2,), generator=generator).tolist()
        lesion[k, :, row : row + 4, column : column + 4] += 1.0
    assert constancy(ImageStack(lesion, label, index, 0 * index), place) < 0.1
