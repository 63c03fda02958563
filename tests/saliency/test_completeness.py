"""Pixels and constants add up to the logit, on every named network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP, wbp_completeness
from tests.saliency.named_networks import Named, build, named


def target(image: Tensor) -> Tensor:
    return torch.arange(len(image)) % 2


@named()
@pytest.mark.parametrize("training", [False, True])
def test_relevance_and_constants_are_the_logit(network: Named, training: bool) -> None:
    module, image = build(network, training=training)
    torch.manual_seed(3)
    parts = wbp_completeness(module, image, target(image))
    assert parts.relative_error <= 1e-8
    assert abs(parts.relevance + parts.constants - parts.score) <= 1e-8 * abs(parts.score)
    # Both parts count: a missing constant or a dead signal would not pass unseen.
    assert abs(parts.relevance) > 1e-4 * abs(parts.score)
    assert abs(parts.constants) > 1e-4 * abs(parts.score)
    torch.manual_seed(3)
    s = WBP()(module, image, target(image))
    assert float(s.sum()) == pytest.approx(parts.relevance, rel=1e-8)


def test_of_a_volume_its_slices_logits_are_explained() -> None:
    """For the GA network the explained quantity is sum w z, not the logit of sum w p."""
    torch.manual_seed(0)
    module = MultiViewClassifier().double().eval()
    image = torch.randn(2, 1, 5, 24, 24).double()
    parts = wbp_completeness(module, image, 1)
    explained = module.explain(image)
    weighted = (explained.slice_weights * explained.slice_logits).sum().detach()
    assert parts.score == pytest.approx(float(weighted), rel=1e-10)


def test_a_missing_constant_is_seen() -> None:
    """The account is not the difference to the logit: an unknown constant breaks it."""

    class Filled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).masked_fill(torch.tensor([True, False, False, False]), 5.0)

    parts = wbp_completeness(Filled(), torch.ones(1, 1, 2, 2).double(), 0)
    assert parts.relative_error > 0.5


def test_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(2))
    image = torch.randn(3, 1, 5, 5)
    module(image)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    random = torch.random.get_rng_state()
    wbp_completeness(module, image, 0)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(p.grad is None for p in module.parameters())
