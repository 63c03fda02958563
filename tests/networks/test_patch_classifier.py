from __future__ import annotations

import pytest
import torch

from ppi_med.errors import UsageError
from ppi_med.networks import SmallCNN
from ppi_med.networks.patch_classifier import UnitRange, patch_classifier


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small_cnn", {}),
        ("small_cnn", {"widths": [4, 8], "convolutions": 1}),
        ("efficientnet_lite0", {}),
        ("monai:DenseNet121", {"block_config": [1, 1], "init_features": 8, "growth_rate": 4}),
        ("lotenet", {}),
    ],
)
def test_networks_by_name_give_one_logit_and_learn(name: str, options: dict) -> None:
    torch.manual_seed(0)
    network = patch_classifier(name, 32, options=options, value_range=(-0.375, 3.125))
    logits = network(torch.randn(3, 1, 32, 32).clamp(-0.3, 3))
    assert logits.shape == (3, 1) and logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_torchvisions_networks_take_grey_images() -> None:
    pytest.importorskip("torchvision")
    network = patch_classifier("densenet121", 40).eval()
    assert network(torch.zeros(1, 1, 40, 40)).shape == (1, 1)


def test_the_small_cnn_has_two_convolutions_a_stage() -> None:
    network = patch_classifier("small_cnn", 40)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16, 16, 32, 32, 64, 64]
    one = SmallCNN(1, widths=(4, 8), convolutions=1)
    assert list(one.state_dict()) == list(SmallCNN(1, widths=(4, 8)).state_dict())
    strided = SmallCNN(1, widths=(4, 8), downsampling="stride", convolutions=3).features
    assert strided(torch.zeros(1, 1, 32, 32)).shape == (1, 8, 8, 8)


def test_tensor_networks_get_values_from_0_to_1() -> None:
    found = UnitRange(-0.375, 3.125)(torch.tensor([-0.375, 1.375, 3.125]))
    assert found.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "more", "wanted"),
    [
        ("smal_cnn", {}, "smal_cnn"),
        ("small_cnn", {"options": {"width": 3}}, "width"),
        ("small_cnn", {"options": {"convolutions": 0}}, "convolutions is 0"),
        ("small_cnn", {"weights": "none.pt"}, r"none\.pt"),
        ("lotenet", {"weights": "none.pt"}, "leave weights out"),
        ("lotenet", {"options": {"bond": 3}}, "bond"),
        ("lotenet", {"value_range": (1, 0)}, "value_range"),
    ],
)
def test_what_does_not_fit_is_one_sentence(name: str, more: dict, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        patch_classifier(name, 40, **more)
