"""Print how far WBP's maps are from gradient x input, for docs/explanation/wbp.md.

`python docs/figures/wbp_against_gradient.py`; networks with random weights, in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ppi_med.networks import MultiViewClassifier
from ppi_med.networks.torchvision_shim import ensure_torchvision
from ppi_med.saliency import WBP, wbp_completeness

SIDE = 64
SAMPLES = 4


def networks() -> Iterator[tuple[str, nn.Module, Tensor, bool]]:
    """Yield name, network, images and whether it is in training mode."""
    ensure_torchvision()
    from torchvision import models

    photo = torch.randn(SAMPLES, 3, SIDE, SIDE)
    for name, options in {
        "vgg11": {},
        "resnet18": {},
        "efficientnet_b0": {},
        "convnext_tiny": {},
        "vit_b_16": {"image_size": SIDE},
    }.items():
        make = getattr(models, name)
        yield name, make(weights=None, num_classes=4, **options), photo, False
        if name == "resnet18":
            yield name, make(weights=None, num_classes=4), photo, True
    volume = torch.rand(SAMPLES, 1, 5, SIDE, SIDE)
    yield "the GA network", MultiViewClassifier(), volume, False


def gradient_times_input(network: nn.Module, image: Tensor) -> Tensor:
    """Return the map `(N, C, *spatial)` of the first logit."""
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)
    return gradient * image


@torch.no_grad()
def awake(network: nn.Module, image: Tensor) -> None:
    """Let the signal reach the end: statistics of these images, no layer that starts at zero."""
    for parameter in network.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(image)


def compare(network: nn.Module, image: Tensor) -> tuple[float, float, float]:
    """Return the mean correlation of the maps, their relative distance, and completeness' error."""
    target = 1 if network(image).shape[1] == 1 else 0
    ours = WBP()(network, image, target).flatten(1)
    theirs = gradient_times_input(network, image).flatten(1)
    pairs = zip(ours, theirs, strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs]).mean()
    distance = ((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).mean()
    error = wbp_completeness(network, image, target).relative_error
    return float(correlation), float(distance), error


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    print("| Network | Mode | Correlation | Relative distance | Completeness: error |")
    print("| --- | --- | --- | --- | --- |")
    for name, network, image, training in networks():
        awake(network, image)
        network.train(training)
        mode = "training" if training else "evaluation"
        correlation, distance, error = compare(network, image)
        print(f"| {name} | {mode} | {correlation:.3f} | {distance:.1e} | {error:.0e} |")


if __name__ == "__main__":
    main()
