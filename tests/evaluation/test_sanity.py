"""Sanity checks: maps of a trained network pass, an edge detector fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from ppi_med.evaluation.sanity import (
    cascading,
    independent,
    layers_of,
    model_randomisation,
    randomised,
    rank_correlation,
)
from ppi_med.saliency import LRP, WBP, GradCAM, Gradient, GradientTimesInput
from ppi_med.saliency.lrp import Gamma


def edges(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """A method that is broken on purpose: it draws the image's edges and ignores the network."""
    kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])[None, None]
    return F.conv2d(image, kernel, padding=1).abs()


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 36, 2),
    )


def images(seed: int, count: int = 96) -> tuple[Tensor, Tensor]:
    """Texture everywhere; a blob on the left or on the right is the class."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 1, 12, 12, generator=generator)
    label = torch.randint(2, (count,), generator=generator)
    for i in range(count):
        row = int(torch.randint(1, 8, (1,), generator=generator))
        column = 1 if label[i] == 0 else 8
        image[i, 0, row : row + 3, column : column + 3] += 2.0
    return image, label


def trained(image: Tensor, label: Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    module = network()
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        F.cross_entropy(module(image), label).backward()
        optimiser.step()
    return module.eval()


@pytest.fixture(scope="module")
def subject() -> tuple[nn.Sequential, Tensor, Tensor]:
    image, label = images(0)
    module = trained(image, label)
    test, truth = images(1, 16)
    assert (module(test).argmax(1) == truth).float().mean() > 0.9
    return module, test, truth


METHODS: dict[str, Callable[..., Tensor]] = {
    "WBP": WBP(),
    "gradient": Gradient(),
    "gradient x input": GradientTimesInput(),
    "LRP": LRP(),
    "LRP gamma": LRP(Gamma()),
    "GradCAM": GradCAM("4", relu=False),
}


@pytest.mark.parametrize("name", METHODS)
def test_maps_depend_on_the_network(name: str, subject: tuple[Any, Tensor, Tensor]) -> None:
    module, image, target = subject
    result = model_randomisation(METHODS[name], module, image, target)
    assert result.layers == ("7", "4", "1", "0") and result.correlations.shape == (4, 16)
    assert result.passes(0.6), result.correlations.mean(1)


@pytest.mark.parametrize("kind", ["cascading", "independent"])
def test_an_edge_detector_fails(kind: str, subject: tuple[Any, Tensor, Tensor]) -> None:
    module, image, target = subject
    result = model_randomisation(edges, module, image, target, kind=kind)
    assert (result.correlations - 1).abs().max() < 1e-9
    assert not result.passes(0.99)


def test_independent_randomisation(subject: tuple[Any, Tensor, Tensor]) -> None:
    module, image, target = subject
    result = model_randomisation(WBP(), module, image, target, kind="independent")
    assert not result.cumulative and (result.correlations.mean(1) < 0.99).all()
    with pytest.raises(ValueError, match="kind is 'both'"):
        model_randomisation(WBP(), module, image, target, kind="both")


def differing(a: nn.Module, b: nn.Module) -> set[str]:
    other = dict(b.named_parameters())
    return {
        name.rpartition(".")[0]
        for name, p in a.named_parameters()
        if not torch.equal(p, other[name])
    }


def test_what_is_randomised(subject: tuple[Any, Tensor, Tensor]) -> None:
    module, _, _ = subject
    before = {name: p.clone() for name, p in module.named_parameters()}
    state = torch.random.get_rng_state()
    assert layers_of(module) == ["7", "4", "1", "0"]
    steps = list(cascading(module, seed=3))
    assert [differing(module, changed) for _, changed in steps] == [
        {"7"},
        {"7", "4"},
        {"7", "4", "1"},
        {"7", "4", "1", "0"},
    ]
    alone = list(independent(module, seed=3))
    assert [differing(module, changed) for _, changed in alone] == [{"7"}, {"4"}, {"1"}, {"0"}]
    # The same layer with the same seed is the same, alone or with others.
    assert torch.equal(alone[3][1][0].weight, steps[3][1][0].weight)
    assert not torch.equal(randomised(module, ["0"], 4)[0].weight, alone[3][1][0].weight)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ValueError, match="no layers"):
        randomised(module, ["9"], 0)


def test_a_parameter_without_a_reset_is_drawn_anew() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.arange(6.0))

    module = Scale()
    assert not torch.equal(randomised(module, [""], 0).scale, module.scale)


@pytest.mark.parametrize("spatial", [(20,), (4, 5), (3, 2, 4)])
def test_rank_correlation_as_scipy(spatial: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    a = (3 * torch.randn(6, *spatial)).round()
    b = (a + 3 * torch.randn(6, *spatial)).round()
    got = rank_correlation(a, b)
    for i in range(6):
        expected = spearmanr(a[i].flatten(), b[i].flatten()).statistic
        assert got[i].item() == pytest.approx(expected, abs=1e-12)


def test_rank_correlation_of_a_constant_is_nothing() -> None:
    assert rank_correlation(torch.ones(1, 4), torch.rand(1, 4)).tolist() == [0.0]
    with pytest.raises(ValueError, match="expected one shape"):
        rank_correlation(torch.ones(1, 4), torch.ones(1, 5))
