"""The mean over flips and quarter turns: by hand, and what it promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import WBP, Gradient, SymmetryMean
from tests.saliency.small_networks import Mixed


def square_network() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 3, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(12, 2)]
    return nn.Sequential(*layers).double().eval()


def test_it_is_the_mean_over_the_eight_copies() -> None:
    network, image = square_network(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    expected = torch.zeros_like(image)
    for mirrored in (False, True):
        for quarter in range(4):
            copy = image.transpose(-2, -1) if mirrored else image
            for _ in range(quarter):
                copy = copy.transpose(-2, -1).flip(-1)
            s = WBP()(network, copy, 1)
            for _ in range(quarter):
                s = s.flip(-1).transpose(-2, -1)
            expected += (s.transpose(-2, -1) if mirrored else s) / 8
    method = SymmetryMean()
    assert method.size == 8
    assert torch.allclose(method(network, image, 1), expected, rtol=1e-12)
    assert not torch.allclose(WBP()(network, image, 1), expected)


class Averaged(nn.Module):
    """The mean logit over flips and turns, as `test_views` of `lidc_ppi` has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        copies = [torch.rot90(x, k, (-2, -1)) for x in (image, image.flip(-1)) for k in range(4)]
        return torch.stack([self.network(copy) for copy in copies]).mean(0)


def test_it_is_the_map_of_the_mean_score() -> None:
    network, image = square_network(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    found = SymmetryMean()(network, image, 1)
    assert torch.allclose(found, WBP()(Averaged(network), image, 1), rtol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.flip(-1),
        lambda x: x.flip(-2),
        lambda x: x.transpose(-2, -1),
        lambda x: torch.rot90(x, 1, (-2, -1)),
    ],
)
def test_the_map_turns_with_the_image(change: object) -> None:
    assert callable(change)
    network, image = square_network(), torch.randn(1, 1, 6, 6, dtype=torch.float64)
    method = SymmetryMean(Gradient("absolute"))
    turned: Tensor = method(network, change(image), 0)
    assert torch.allclose(turned, change(method(network, image, 0)), rtol=1e-10)


@pytest.mark.parametrize(
    ("flips", "turns", "size"),
    [
        ([-1], False, 2),
        ([-2, -1], False, 4),
        ([-1], True, 8),
        ([], True, 4),
        ([-3, -2, -1], True, 16),
    ],
)
def test_no_copy_counts_twice(flips: list[int], turns: bool, size: int) -> None:
    image = torch.arange(27.0).reshape(1, 1, 3, 3, 3)
    copies = [copy for copy, _ in SymmetryMean(flips=flips, turns=turns).copies(image)]
    assert len(copies) == SymmetryMean(flips=flips, turns=turns).size == size
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) == size


def test_every_copy_finds_its_way_back() -> None:
    image = torch.rand(2, 1, 2, 5, 5)
    for copy, way_back in SymmetryMean(flips=[-3, -2, -1]).copies(image):
        assert torch.equal(way_back(copy), image)


def test_what_can_not_be_turned_is_refused() -> None:
    network, image = Mixed(2).eval(), torch.randn(2, 1, 4, 5)
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 5\) can't be turned by a quarter"):
        SymmetryMean()(network, image, 0)
    assert SymmetryMean(turns=False)(network, image, 0).shape == image.shape
    with pytest.raises(ValueError, match="axis -3"):
        SymmetryMean(flips=[-3], turns=False)(network, image, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"flips": [2]}, "axes from the end"), ({"flips": [], "turns": False}, "no copy")],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SymmetryMean(**options)  # type: ignore[arg-type]
