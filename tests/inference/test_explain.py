"""A volume's map, slice by slice, against the one recorded over the whole volume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.inference.explain import explain_volume
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP, Recording, SaliencyMethod


def volumes(slices: int = 7) -> Tensor:
    return torch.randn(2, 1, slices, 16, 24, generator=torch.Generator().manual_seed(5)).double()


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 100])
def test_the_map_is_the_one_of_the_whole_volume(
    network: MultiViewClassifier, chunk_size: int
) -> None:
    network = network.double()
    image = volumes()
    found = explain_volume(network, image, WBP(), chunk_size=chunk_size)
    direct = WBP()(network.eval(), image, 1)
    assert direct.abs().max() > 1e-3
    torch.testing.assert_close(found.saliency, direct, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.logit, network(image).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.slice_weights.sum(1), torch.ones(2).double())


def test_positions_reach_the_weights(network: MultiViewClassifier) -> None:
    image = volumes().float()
    early = explain_volume(network, image, positions=torch.arange(1, 8).expand(2, 7))
    late = explain_volume(network, image, positions=torch.arange(94, 101).expand(2, 7))
    assert not torch.allclose(early.slice_weights, late.slice_weights, atol=1e-3)
    torch.testing.assert_close(early.slice_logits, late.slice_logits)
    assert early.saliency is None


def test_no_more_than_a_chunk_passes_at_once(network: MultiViewClassifier) -> None:
    seen: list[int] = []
    network.backbone.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    explain_volume(network, volumes(11).float(), WBP(), chunk_size=4)
    assert max(seen) <= 4
    assert sum(seen) == 2 * 2 * 11  # once for the logit, once for the map


def test_nothing_is_left_behind(network: MultiViewClassifier) -> None:
    network.train()
    network.slice_head.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    explain_volume(network, volumes().float(), WBP())
    assert modes == [module.training for module in network.modules()]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


class Broken(SaliencyMethod):
    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault

    def record(self, network: Any, image: Tensor, *args: Any, **kwargs: Any) -> Recording:
        raise NotImplementedError

    def __call__(self, network: Any, image: Tensor, target: Any, **kwargs: Any) -> Tensor:
        if self.fault:
            raise self.fault
        return image.mean(1)


def test_modes_are_restored_after_a_fault(network: MultiViewClassifier) -> None:
    network.train()
    with pytest.raises(RuntimeError, match="on purpose"):
        explain_volume(network, volumes().float(), Broken(RuntimeError("on purpose")))
    assert network.training
    assert network.backbone.training


def test_a_map_of_another_shape_is_refused(network: MultiViewClassifier) -> None:
    with pytest.raises(ValueError, match="Broken gave a map of shape"):
        explain_volume(network, volumes().float(), Broken())


def test_other_networks_are_refused() -> None:
    with pytest.raises(TypeError, match="Linear has no explain and no slice_classifier"):
        explain_volume(nn.Linear(2, 1), volumes())


def test_a_chunk_of_nothing_is_refused(network: MultiViewClassifier) -> None:
    with pytest.raises(ValueError, match="chunk_size is 0"):
        explain_volume(network, volumes().float(), chunk_size=0)
