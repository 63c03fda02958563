"""The maps that `saliency.py` times: ours and those of other packages, by group and library.

A group holds equivalent maps. Each piece of work has a copy of the network of its own, so that the
hooks which other packages leave on it (and which they need only place once) disturb no other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ppi_med.networks.torchvision_shim import ensure_torchvision
from ppi_med.saliency import LRP, Gradient, by_name
from ppi_med.saliency.lrp import AlphaBeta, Composite, Epsilon, Flat

Map = Callable[[], Tensor]
Make = Callable[["Scene"], Map]
EPSILON = 1e-6
STEPS, SAMPLES, NOISE = 8, 4, 1e-7
OURS = "ppi_med"


@dataclass(frozen=True)
class Scene:
    """A network in evaluation mode, a batch, its targets."""

    network: nn.Module
    image: Tensor
    target: Tensor

    def apart(self) -> Scene:
        """Return the same with a network of its own."""
        return Scene(copy.deepcopy(self.network), self.image, self.target)

    def double(self) -> Scene:
        """Return the same in double precision, with a network of its own."""
        apart = self.apart()
        return Scene(apart.network.double(), apart.image.double(), apart.target)


@dataclass(frozen=True)
class Subject:
    """A network by name, the shape of one image, and the size of a batch."""

    make: Callable[[], nn.Module]
    image: tuple[int, ...]
    batch: int
    canonizer: str | None = None

    def scene(self, batch: int | None = None) -> Scene:
        """Return the network with random weights and images of it."""
        torch.manual_seed(0)
        network = self.make()
        image = torch.randn(batch or self.batch, *self.image)
        _awake(network, image)
        return Scene(network.eval(), image, torch.arange(len(image)) % 10)


def torchvision(name: str) -> nn.Module:
    """Build a network of torchvision by name, with random weights and 10 classes."""
    if not ensure_torchvision():
        raise SystemExit("torchvision is not installed: pip install 'ppi_med[torchvision]'")
    from torchvision import models

    network: nn.Module = getattr(models, name)(weights=None, num_classes=10)
    return network


SUBJECTS = {
    "vgg11": Subject(lambda: torchvision("vgg11"), (3, 112, 112), 4),
    "resnet18": Subject(lambda: torchvision("resnet18"), (3, 160, 160), 8, "ResNetCanonizer"),
}


def _awake(network: nn.Module, image: Tensor) -> None:
    """Give BatchNorm the statistics of these images; let the other packages be right."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.eps = 1e-12  # Zennit's merging divides by sqrt(1 + eps) once more
        if isinstance(module, nn.ReLU):
            module.inplace = False  # pytorch-grad-cam would keep what it has changed
    with torch.no_grad():
        network.train()(image)


def _ours(method: Any) -> Make:
    def make(scene: Scene) -> Map:
        return lambda: method(scene.network, scene.image, scene.target)

    return make


def _captum(name: str, build: tuple[Any, ...] = (), **options: Any) -> Make:
    def make(scene: Scene) -> Map:
        import captum.attr

        found = getattr(captum.attr, name)(scene.network, *build)
        return lambda: found.attribute(scene.image, target=scene.target, **options).detach()

    return make


def _captum_smoothgrad(scene: Scene) -> Map:
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(scene.network))
    options = {"nt_samples": SAMPLES, "stdevs": NOISE, "target": scene.target, "abs": False}
    return lambda: tunnel.attribute(scene.image, **options).detach()


def _captum_gradcam(scene: Scene) -> Map:
    from captum.attr import LayerAttribution, LayerGradCam

    found = LayerGradCam(scene.network, _last_convolution(scene.network))
    size = tuple(scene.image.shape[2:])

    def cam() -> Tensor:
        coarse = found.attribute(scene.image, target=scene.target, relu_attributions=True)
        fine: Tensor = LayerAttribution.interpolate(coarse, size, "bilinear")
        return fine.detach().expand_as(scene.image)

    return cam


def _captum_lrp(scene: Scene) -> Map:
    import captum.attr
    from captum.attr._utils.lrp_rules import EpsilonRule

    for module in scene.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.rule = EpsilonRule(EPSILON)
    found = captum.attr.LRP(scene.network)
    return lambda: found.attribute(scene.image, target=scene.target).detach()


def _zennit(composite: str, canonizer: str | None) -> Make:
    def make(scene: Scene) -> Map:
        import zennit.torchvision
        from zennit.attribution import Gradient as Attributor
        from zennit.composites import EpsilonPlusFlat, LayerMapComposite
        from zennit.layer import Sum
        from zennit.rules import Epsilon as EpsilonHook
        from zennit.rules import Norm, Pass
        from zennit.types import Activation, AvgPool, BatchNorm, Linear

        canonizers = [getattr(zennit.torchvision, canonizer)()] if canonizer else []
        if composite == "gradient":
            made = None
        elif composite == "epsilon_plus_flat":
            made = EpsilonPlusFlat(epsilon=EPSILON, stabilizer=EPSILON, canonizers=canonizers)
        else:
            passed, shared = (Activation, BatchNorm), (Sum, AvgPool)
            layers = [(kind, Pass()) for kind in passed] + [(kind, Norm()) for kind in shared]
            layers.append((Linear, EpsilonHook(EPSILON)))
            made = LayerMapComposite(layers, canonizers=canonizers)
        start = torch.eye(10, dtype=scene.image.dtype)[scene.target]
        attributor = Attributor(model=scene.network, composite=made)
        if made is not None:
            made.register(scene.network)
        relevance = made is not None

        def beginning(output: Tensor) -> Tensor:
            return output.detach() * start if relevance else start

        def attribute() -> Tensor:
            _, found = attributor.forward(scene.image, beginning)
            return found.detach()

        return attribute

    return make


def _grad_cam(name: str) -> Make:
    def make(scene: Scene) -> Map:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        layer = _last_convolution(scene.network)
        found = getattr(pytorch_grad_cam, name)(model=scene.network, target_layers=[layer])
        targets = [ClassifierOutputTarget(int(index)) for index in scene.target]
        return lambda: (
            torch.from_numpy(found(scene.image, targets)).unsqueeze(1).expand_as(scene.image)
        )

    return make


def _last_convolution(network: nn.Module) -> nn.Module:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]


def groups(subject: Subject) -> dict[str, dict[str, Make]]:
    """Return group -> name of the library, with what of it where there are several -> work."""
    canonizer = subject.canonizer
    epsilon, flat = _zennit("epsilon", canonizer), _zennit("epsilon_plus_flat", canonizer)
    composite = Composite(Epsilon(EPSILON), Flat(EPSILON), {"convolution": _Z_PLUS})
    window = (subject.image[1] // 2, subject.image[2] // 2)
    found: dict[str, dict[str, Make]] = {
        "WBP": {
            OURS: _ours(by_name("wbp")),
            "captum InputXGradient": _captum("InputXGradient"),
            "zennit Epsilon": epsilon,
        },
        "gradient": {
            OURS: _ours(by_name("gradient")),
            "captum Saliency": _captum("Saliency", abs=False),
            "zennit Gradient": _zennit("gradient", None),
        },
        "gradient x input": {
            OURS: _ours(by_name("gradient_x_input")),
            "captum InputXGradient": _captum("InputXGradient"),
        },
        "GradCAM": {
            OURS: _ours(by_name("gradcam")),
            "captum LayerGradCam": _captum_gradcam,
            "grad-cam GradCAM": _grad_cam("GradCAM"),
        },
        "GradCAM++": {
            OURS: _ours(by_name("gradcam_plus_plus", eps=1e-6)),
            "grad-cam GradCAMPlusPlus": _grad_cam("GradCAMPlusPlus"),
        },
        "LRP epsilon": {
            OURS: _ours(LRP(Epsilon(EPSILON), share_epsilon=EPSILON)),
            "zennit Epsilon": epsilon,
        },
        "LRP epsilon plus flat": {
            OURS: _ours(LRP(composite, share_epsilon=EPSILON)),
            "zennit EpsilonPlusFlat": flat,
        },
        "integrated gradients": {
            OURS: _ours(by_name("integrated_gradients", steps=STEPS)),
            "captum IntegratedGradients": _captum("IntegratedGradients", n_steps=STEPS),
        },
        "SmoothGrad": {
            OURS: _ours(by_name("smoothgrad", method=Gradient(), samples=SAMPLES, noise=NOISE)),
            "captum NoiseTunnel": _captum_smoothgrad,
        },
        "occlusion": {
            OURS: _ours(by_name("occlusion", window=window, stride=window)),
            "captum Occlusion": _captum(
                "Occlusion", sliding_window_shapes=(3, *window), strides=(3, *window)
            ),
        },
    }
    if canonizer is None:
        # It refuses modules that are used twice, as a ResNet's are.
        found["LRP epsilon"]["captum LRP"] = _captum_lrp
    return found


_Z_PLUS = AlphaBeta(1.0, 0.0, EPSILON)


def comparable(group: str, library: str, found: Tensor) -> Tensor:
    """Return a map in the units in which a group's maps are compared.

    pytorch-grad-cam scales each map to its own range, twice.
    """
    if not group.startswith("GradCAM"):
        return found
    for _ in range(0 if library.startswith("grad-cam") else 2):
        found = found - found.amin((-2, -1), keepdim=True)
        found = found / (1e-7 + found.amax((-2, -1), keepdim=True))
    return found


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the relative distance of two maps."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))
