from __future__ import annotations

import pytest
import torch
from torch import nn

from ppi_med.networks import SmallVGG, create_backbone, create_classifier


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


def test_the_convolutions_are_those_of_vgg11() -> None:
    models = pytest.importorskip("torchvision.models")
    original = models.vgg11(weights=None, init_weights=False).features
    own = SmallVGG(10, batch_norm=False).features
    assert [type(m) for m in own] == [type(m) for m in original]
    shapes = [c.weight.shape for c in convolutions(own)]
    assert shapes == [c.weight.shape for c in convolutions(original)]
    own.load_state_dict(original.state_dict())
    image = torch.randn(2, 3, 64, 64)
    assert torch.allclose(own(image), original(image))


def test_width_scales_all_layers_but_the_last() -> None:
    network = create_classifier("small_vgg", 7, in_channels=3, width=0.25)
    assert [c.out_channels for c in convolutions(network)] == [16, 32, 64, 64, 128, 128, 128, 128]
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert create_backbone("small_vgg", in_channels=3, width=0.25).num_features == 128
    with pytest.raises(ValueError, match="width"):
        SmallVGG(2, width=0.01)
