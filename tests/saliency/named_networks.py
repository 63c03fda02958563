"""The networks that the rules are promised for, unchanged, with parameters that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Named:
    """A network and the shape of a batch of images for it."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    slow: bool = False


def torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    network: nn.Module = getattr(models, name)(weights=None, num_classes=4, **options)
    return network


def monai(name: str, **options: Any) -> nn.Module:
    from monai.networks import nets

    network: nn.Module = getattr(nets, name)(**options)
    return network


def multiview() -> nn.Module:
    from ppi_med.networks.multiview import MultiViewClassifier

    return MultiViewClassifier(chunk_size=2)


NETWORKS = [
    Named(
        "inception_v3",
        lambda: torchvision("inception_v3", init_weights=False, aux_logits=True),
        (2, 3, 299, 299),
        slow=True,
    ),
    Named("vgg11", lambda: torchvision("vgg11"), (2, 3, 48, 48), slow=True),
    Named("resnet18", lambda: torchvision("resnet18"), (2, 3, 48, 48)),
    Named("densenet121", lambda: torchvision("densenet121"), (2, 3, 96, 96), slow=True),
    Named("efficientnet_b0", lambda: torchvision("efficientnet_b0"), (2, 3, 64, 64)),
    Named("mobilenet_v3_small", lambda: torchvision("mobilenet_v3_small"), (2, 3, 64, 64)),
    Named("vit_b_16", lambda: torchvision("vit_b_16", image_size=32), (2, 3, 32, 32), slow=True),
    Named("squeezenet1_1", lambda: torchvision("squeezenet1_1"), (2, 3, 64, 64)),
    Named("convnext_tiny", lambda: torchvision("convnext_tiny"), (2, 3, 32, 32)),
    Named(
        "MONAI DenseNet121 2D",
        lambda: monai("DenseNet121", spatial_dims=2, in_channels=1, out_channels=3),
        (2, 1, 96, 96),
        slow=True,
    ),
    Named(
        "MONAI DenseNet121 3D",
        lambda: monai("DenseNet121", spatial_dims=3, in_channels=1, out_channels=2),
        (4, 1, 32, 32, 32),
        slow=True,
    ),
    Named(
        "MONAI SEResNet50",
        lambda: monai("SEResNet50", spatial_dims=2, in_channels=1, num_classes=3),
        (2, 1, 64, 64),
        slow=True,
    ),
    Named(
        "MONAI EfficientNetBN",
        lambda: monai(
            "EfficientNetBN", model_name="efficientnet-b0", pretrained=False, in_channels=1
        ),
        (2, 1, 64, 64),
    ),
    Named(
        "MONAI ViT",
        lambda: monai(
            "ViT",
            in_channels=1,
            img_size=(16, 16, 16),
            patch_size=8,
            hidden_size=96,
            mlp_dim=128,
            num_layers=3,
            num_heads=4,
            classification=True,
        ),
        (2, 1, 16, 16, 16),
    ),
    Named("multi-view", multiview, (2, 1, 5, 24, 24)),
]


def named(*without: str) -> Any:
    """Parametrise a test by the networks; the heavy ones are slow."""
    return pytest.mark.parametrize(
        "network",
        [
            pytest.param(n, id=n.name, marks=[pytest.mark.slow] if n.slow else [])
            for n in NETWORKS
            if n.name not in without
        ],
    )


def build(network: Named, *, training: bool = False, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return the network in float64 with randomised parameters, and a batch of images."""
    torch.manual_seed(seed)
    module = network.make().double()
    image = torch.randn(network.shape).double()
    randomise(module, image)
    return module.train(training), image


@torch.no_grad()
def randomise(module: nn.Module, image: Tensor) -> None:
    """Move every parameter, and BatchNorm's statistics to near those of the image.

    Biases and heads that start at zero would hide a missing constant; statistics that have nothing
    to do with the activations let the signal die out with depth.
    """
    for parameter in module.parameters():
        spread = parameter.std() if parameter.numel() > 1 else torch.zeros(())
        scale = float(spread) if float(spread) > 0 else 0.1
        parameter.add_(torch.randn_like(parameter) * 0.3 * scale)
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        module.train()(image)
    for norm in norms:
        norm.momentum = 0.1
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.4))
