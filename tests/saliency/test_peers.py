"""Equal to Captum, Zennit and pytorch-grad-cam where they support the network and are right.

Where they are not: Captum's LRP refuses reused modules; Zennit lets the relevance of a sum pass
twice without its canonizers; pytorch-grad-cam keeps outputs that a later ReLU in place changes and
scales each map to its own range. The networks here avoid the first three, and the last is undone.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import (
    LRP,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
)
from ppi_med.saliency.lrp import AlphaBeta, Composite, Epsilon, Flat, Gamma, WSquare, ZBeta
from tests.saliency.named_networks import randomise


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
        nn.ReLU(),
        nn.Linear(10, 3),
    ).double()


IMAGE = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
TARGET = torch.tensor([0, 2, 1, 2])


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert expected.abs().max() > 1e-6
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def captum() -> Any:
    return pytest.importorskip("captum.attr", reason="captum is not installed")


def test_gradients_as_captum() -> None:
    attr = captum()
    module, image = network(), IMAGE
    close(
        Gradient()(module, image, TARGET), attr.Saliency(module).attribute(image, TARGET, abs=False)
    )
    close(
        Gradient("absolute")(module, image, TARGET), attr.Saliency(module).attribute(image, TARGET)
    )
    close(
        GradientTimesInput()(module, image, TARGET),
        attr.InputXGradient(module).attribute(image, TARGET),
    )


def test_integrated_gradients_as_captum() -> None:
    """Captum keeps the places on the path in single precision."""
    attr, module = captum(), network()
    baseline = torch.full_like(IMAGE, 0.1)
    expected = attr.IntegratedGradients(module).attribute(
        IMAGE, baseline, target=TARGET, n_steps=20, method="gausslegendre"
    )
    close(IntegratedGradients(20, 0.1)(module, IMAGE, TARGET), expected, 1e-7)
    expected = attr.IntegratedGradients(module).attribute(
        IMAGE, baseline, target=TARGET, n_steps=20, method="riemann_middle"
    )
    close(IntegratedGradients(20, 0.1, "midpoint")(module, IMAGE, TARGET), expected, 1e-7)


def test_occlusion_as_captum() -> None:
    """Captum averages in single precision."""
    attr, module = captum(), network()
    expected = attr.Occlusion(module).attribute(
        IMAGE, sliding_window_shapes=(2, 4, 2), strides=(2, 2, 2), target=TARGET
    )
    close(Occlusion((4, 2), (2, 2))(module, IMAGE, TARGET), expected.double(), 1e-6)


class Flattening(nn.Module):
    """The same network without a Flatten module, which Captum's LRP has no rule for."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.body, self.head = layers[:6], layers[7:]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))


def test_lrp_as_captum() -> None:
    """Captum adds gamma w+ whatever the sign of the input, and nothing to the bias."""
    attr, module = captum(), Flattening(network())
    for layer in (module.body[0], module.body[3], module.head[0]):
        nn.init.zeros_(layer.bias)
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    for rule, method in (
        (rules.EpsilonRule(1e-9), LRP(Epsilon(1e-9), share_epsilon=1e-9)),
        (rules.GammaRule(0.3), LRP(Gamma(0.3), names={"head.9": Epsilon(1e-9)})),
    ):
        for layer in (module.body[0], module.body[3], module.head[0]):
            layer.rule = rule
        image = IMAGE.abs()
        expected = attr.LRP(module).attribute(image, target=TARGET)
        close(method(module, image, TARGET), expected, 1e-6)  # its stabiliser is elsewhere too


def zennit_map(module: nn.Module, image: Tensor, target: Tensor, composite: Any) -> Tensor:
    from zennit.attribution import Gradient as Attributor

    classes = module(image).shape[1]
    eye = torch.eye(classes, dtype=image.dtype)[target]
    with Attributor(model=module, composite=composite) as attributor:
        _, relevance = attributor(image, lambda output: output * eye)
    return relevance.detach()


ZENNIT: dict[str, tuple[Any, Any]] = {
    "epsilon": (Epsilon(0.1), lambda r: r.Epsilon(0.1)),
    "epsilon without bias": (
        Epsilon(0.1, bias=False),
        lambda r: r.Epsilon(0.1, zero_params="bias"),
    ),
    "gamma": (Gamma(0.3, 1e-6), lambda r: r.Gamma(0.3)),
    "alpha beta": (AlphaBeta(2, 1, 1e-6), lambda r: r.AlphaBeta(2, 1)),
    "z+": (AlphaBeta(1, 0, 1e-6), lambda r: r.ZPlus()),
    "w^2": (WSquare(1e-6), lambda r: r.WSquare(zero_params="bias")),
    "flat": (Flat(1e-6), lambda r: r.Flat()),
    "z^beta": (ZBeta(-4.0, 4.0, 1e-6), lambda r: r.ZBox(-4.0, 4.0)),
}


@pytest.mark.parametrize("name", ZENNIT)
def test_lrp_as_zennit(name: str) -> None:
    rules = pytest.importorskip("zennit.rules", reason="zennit is not installed")
    composites = pytest.importorskip("zennit.composites")
    types = pytest.importorskip("zennit.types")
    ours, theirs = ZENNIT[name]
    composite = composites.LayerMapComposite(
        [
            (types.Activation, rules.Pass()),
            (types.AvgPool, rules.Norm()),
            (types.Linear, theirs(rules)),
        ]
    )
    expected = zennit_map(network(), IMAGE, TARGET, composite)
    close(LRP(ours, share_epsilon=1e-6)(network(), IMAGE, TARGET), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18"])
def test_lrp_of_whole_networks_as_zennit(name: str) -> None:
    """BatchNorm merged, residual sums shared: Zennit's canonizers do the same to the modules."""
    composites = pytest.importorskip("zennit.composites", reason="zennit is not installed")
    canonizers = pytest.importorskip("zennit.torchvision")
    from torchvision import models

    torch.manual_seed(0)
    module = getattr(models, name)(weights=None, num_classes=4).double()
    image = torch.randn(2, 3, 64, 64).double()
    randomise(module, image)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-12  # Zennit divides by sqrt(1 + eps) once more for each merged norm
    canonizer = getattr(canonizers, {"vgg11_bn": "VGGCanonizer"}.get(name, "ResNetCanonizer"))
    expected = zennit_map(
        module.eval(),
        image,
        TARGET[:2],
        composites.EpsilonPlusFlat(epsilon=1e-6, stabilizer=1e-6, canonizers=[canonizer()]),
    )
    composite = Composite(Epsilon(1e-6), Flat(1e-6), {"convolution": AlphaBeta(1.0, 0.0, 1e-6)})
    close(LRP(composite, share_epsilon=1e-6)(module, image, TARGET[:2]), expected, 1e-6)


def grad_cam_map(method: str, module: nn.Module, image: Tensor, target: int) -> Tensor:
    cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    layer = [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]
    with getattr(cam, method)(model=module, target_layers=[layer]) as extractor:
        found = extractor(image, [targets.ClassifierOutputTarget(target)])
    return torch.as_tensor(found)


def scaled(s: Tensor) -> Tensor:
    """Scale to the map's own range, as pytorch-grad-cam does twice."""
    for _ in range(2):
        s = s - s.amin((-2, -1), keepdim=True)
        s = s / (1e-7 + s.amax((-2, -1), keepdim=True))
    return s


@pytest.mark.parametrize("name", ["GradCAM", "GradCAMPlusPlus"])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_cam_as_pytorch_grad_cam(name: str, target: int) -> None:
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    module = network().float()
    method = GradCAM() if name == "GradCAM" else GradCAMPlusPlus(eps=1e-6)
    for image in IMAGE.float().split(1):
        got = method(module, image, target)
        expected = grad_cam_map(name, module, image, target)
        assert got.shape == image.shape and torch.equal(got[:, 0], got[:, 1])
        assert expected.max() > 0.5
        assert torch.allclose(scaled(got[:, 0]), expected, atol=2e-5)
