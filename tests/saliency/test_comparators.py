"""What the comparators promise beyond the contract: formulas, gradients by parameters, layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import (
    LRP,
    WBP,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SaliencyMethod,
    SmoothGrad,
)
from ppi_med.saliency.lrp import (
    AlphaBeta,
    Flat,
    Gamma,
    WSquare,
    ZBeta,
    Zero,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus_flat,
)
from tests.saliency.small_networks import Mixed, Plain
from tests.saliency.test_parameter_gradients import check, prepared

DIFFERENTIABLE: dict[str, Callable[[], SaliencyMethod]] = {
    "gradient": Gradient,
    "absolute gradient": lambda: Gradient("absolute"),
    "gradient x input": GradientTimesInput,
    "GradCAM": lambda: GradCAM(relu=False),
    "GradCAM++": lambda: GradCAMPlusPlus(relu=False),
    "LRP epsilon": LRP,
    "LRP 0": lambda: LRP(Zero()),
    "LRP gamma": lambda: LRP(Gamma()),
    "LRP alpha beta": lambda: LRP(AlphaBeta()),
    "LRP w^2": lambda: LRP(WSquare()),
    "LRP flat": lambda: LRP(Flat()),
    "LRP z^beta": lambda: LRP(ZBeta(-4.0, 4.0)),
    "LRP composites": lambda: SmoothGrad(LRP(epsilon_gamma_box(-4.0, 4.0)), samples=1),
    "integrated gradients": lambda: IntegratedGradients(3),
    "SmoothGrad": lambda: SmoothGrad(samples=2),
    "SmoothGrad of WBP": lambda: SmoothGrad(WBP(), samples=2),
    "occlusion": lambda: Occlusion(3),
}


def map_loss(
    method: SaliencyMethod, network: nn.Module, image: Tensor, target: Tensor
) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        torch.manual_seed(5)
        recording = method.record(network, image)
        s = recording.saliency(target, create_graph=True)
        # Some rules give large maps: their differences would be lost in rounding.
        size = s.detach().abs().max()
        scaled = s / SIZES.setdefault(id(loss), size)
        return recording.output.square().mean() + (scaled - 0.1 * image).square().mean()

    return loss


SIZES: dict[int, Tensor] = {}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_parameter_gradients_are_finite_differences(name: str, training: bool) -> None:
    """Through batch statistics, SiLU, a gate, a residual in place and attention, in float64."""
    torch.manual_seed(0)
    network, image = prepared(Mixed(2, dropout=0.0), (3, 1, 4, 5), training)
    target = torch.tensor([0, 1, 2])
    loss = map_loss(DIFFERENTIABLE[name](), network, image, target)
    # A small denominator bends LRP's maps: the step must be small against it.
    check(network, loss, step=1e-8 if "LRP" in name else 1e-6, entries=2)


@pytest.mark.parametrize(
    "make",
    [Gradient, GradientTimesInput, GradCAM, GradCAMPlusPlus, LRP, lambda: LRP(Gamma())],
)
def test_parameter_gradients_on_a_piecewise_linear_network(make: Any) -> None:
    torch.manual_seed(1)
    network, image = prepared(Plain(), (3, 1, 8, 8), True)
    loss = map_loss(make(), network, image, torch.tensor([0, 1, 2]))
    check(network, loss, step=1e-7, entries=3)


@pytest.mark.parametrize("make", [GradCAM, GradCAMPlusPlus])
def test_cam_of_mixed_targets_is_one_by_one(make: Any) -> None:
    torch.manual_seed(0)
    network = Plain().double().eval()
    image = torch.randn(6, 1, 12, 12).double()
    target = torch.tensor([0, 1, 2, 2, 1, 0])
    batch = make()(network, image, target)
    for i in range(6):
        single = make()(network, image[i : i + 1], int(target[i]))
        assert (batch[i : i + 1] - single).abs().max() <= 1e-12 * batch.abs().max()
    assert not torch.allclose(batch, make()(network, image, 0))


def slow_cam(network: nn.Sequential, upto: int, image: Tensor, target: int) -> Tensor:
    """Grad-CAM with the network cut in two."""
    activation = network[:upto](image).detach().requires_grad_()
    network[upto:](activation * 1)[0, target].backward()
    weight = activation.grad.mean((2, 3))[0]
    cam = sum(w * a for w, a in zip(weight, activation[0].detach(), strict=True)).relu()
    return nn.functional.interpolate(cam[None, None], size=image.shape[2:], mode="bilinear")


@pytest.mark.parametrize(
    ("layer", "upto"),
    [(None, 5), ("body.0", 1), ("body.1", 2), ("body.2", 3), ("body.3", 4), ("body.5", 6)],
)
def test_cam_of_any_layer(layer: str | None, upto: int) -> None:
    """Also of layers whose output a ReLU in place changes afterwards."""
    torch.manual_seed(0)
    network = Plain().double().eval()
    image = torch.randn(2, 1, 8, 8).double()
    got = GradCAM(layer)(network, image, torch.tensor([1, 2]))
    for i, target in enumerate([1, 2]):
        expected = slow_cam(network.body, upto, image[i : i + 1], target)
        network.zero_grad()
        assert (got[i : i + 1] - expected).abs().max() <= 1e-12


def test_cam_of_a_layer_inside_a_wrapper() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Plain()

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    torch.manual_seed(0)
    network, image = Wrapper().eval(), torch.randn(2, 1, 8, 8)
    assert torch.equal(
        GradCAM("body.0")(network, image, 1), GradCAM("module.body.0")(network, image, 1)
    )


def test_cam_of_the_slices_of_a_volume() -> None:
    """In chunks or at once; a slice's map is that of the slice alone, times its weight."""
    torch.manual_seed(0)
    network = MultiViewClassifier(attention="softmax", chunk_size=2).eval()
    # With one weight for all, the logit of the volume moves with each slice's logit alone.
    nn.init.zeros_(network.attention_head.weight)
    image = torch.randn(2, 1, 5, 24, 24)
    layer = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)][-1]
    s = GradCAM(slice_axis=2, relu=False)(network, image, 1)
    assert s.shape == image.shape
    assert torch.allclose(GradCAM(layer, slice_axis=2, relu=False)(network, image, 1), s)
    network.chunk_size = 0
    assert torch.allclose(GradCAM(slice_axis=2, relu=False)(network, image, 1), s, atol=1e-7)
    slices = image.transpose(1, 2).flatten(0, 1)
    alone = GradCAM(relu=False)(network.slice_classifier(), slices, 1)
    factor = (s.transpose(1, 2).flatten(0, 1) * alone).sum((1, 2, 3)) / alone.square().sum(
        (1, 2, 3)
    )
    assert (factor > 0).all()
    rescaled = (alone * factor.view(-1, 1, 1, 1)).view(2, 5, 1, 24, 24).transpose(1, 2)
    assert torch.allclose(rescaled, s, rtol=1e-3, atol=1e-6)


def test_cam_says_what_is_wrong() -> None:
    network, image = Plain(), torch.randn(2, 1, 8, 8)
    with pytest.raises(ValueError, match="no layer 'body.30'; near names: body.3"):
        GradCAM("body.30")(network, image, 1)
    with pytest.raises(ValueError, match="a function, which has no layers by name"):
        GradCAM("body")(lambda x: network(x), image, 1)
    with pytest.raises(ValueError, match="no convolution"):
        GradCAM()(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), image, 1)
    with pytest.raises(ValueError, match="leads to a map"):
        GradCAM("body.7")(network, image, 1)
    with pytest.raises(ValueError, match="axis in space"):
        GradCAM(slice_axis=1)
    assert not any(m._forward_hooks for m in network.modules())


def test_integrated_gradients_add_up() -> None:
    torch.manual_seed(0)
    network = Mixed(2).double().eval()
    image = torch.randn(3, 1, 4, 4).double()
    s = IntegratedGradients(500, 0.3, "midpoint")(network, image, 1)
    fall = network(image)[:, 1] - network(torch.full_like(image, 0.3))[:, 1]
    assert torch.allclose(s.sum((1, 2, 3)), fall, atol=2e-3)  # kinks on the path


def test_smoothgrad_is_the_mean_of_maps_of_noisy_images() -> None:
    torch.manual_seed(0)
    network = Mixed(2).double().eval()
    image = torch.randn(3, 1, 4, 4).double()
    method = SmoothGrad(WBP(), samples=3, noise=0.2, seed=7)
    generator = torch.Generator().manual_seed(7)
    maps = []
    for _ in range(3):
        noise = torch.randn(1, 1, 4, 4, generator=generator, dtype=torch.float64)
        width = torch.stack([0.2 * (x.max() - x.min()) for x in image]).view(3, 1, 1, 1)
        maps.append(WBP()(network, image + width * noise, 1))
    assert torch.allclose(method(network, image, 1), sum(maps) / 3)
    squared = SmoothGrad(WBP(), samples=3, noise=0.2, seed=7, square=True)
    assert torch.allclose(squared(network, image, 1), sum(m**2 for m in maps) / 3)
    assert not torch.allclose(
        method(network, image, 1),
        SmoothGrad(WBP(), samples=3, noise=0.2, seed=8)(network, image, 1),
    )


def test_occlusion_pixel_by_pixel() -> None:
    torch.manual_seed(0)
    network = Mixed(2).double().eval()
    image = torch.randn(2, 1, 5, 4).double()
    got = Occlusion(window=(3, 2), stride=(2, 2), fill=0.5)(network, image, 2)
    fall, times = torch.zeros(2, 5, 4).double(), torch.zeros(5, 4).double()
    with torch.no_grad():
        for i in (0, 2):
            for j in (0, 2):
                covered = image.clone()
                covered[:, :, i : i + 3, j : j + 2] = 0.5
                lost = network(image)[:, 2] - network(covered)[:, 2]
                fall[:, i : i + 3, j : j + 2] += lost[:, None, None]
                times[i : i + 3, j : j + 2] += 1
    assert torch.allclose(got[:, 0], fall / times)


def test_occlusion_reaches_the_border() -> None:
    windows = Occlusion(window=4, stride=3).windows((9, 2))
    assert windows == [(slice(i, i + 4), slice(0, 2)) for i in (0, 3, 5)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradient("both"), "kind is 'both'"),
        (lambda: IntegratedGradients(0), "steps is 0"),
        (lambda: IntegratedGradients(rule="left"), "rule is 'left'"),
        (lambda: SmoothGrad(samples=0), "samples is 0"),
        (lambda: Occlusion(0), "window is 0"),
        (lambda: Occlusion(stride=(1, 0)), "stride is"),
    ],
)
def test_wrong_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        Gradient,
        LRP,
        lambda: LRP(epsilon_plus_flat()),
        lambda: LRP(epsilon_alpha2_beta1()),
        lambda: IntegratedGradients(2),
        lambda: SmoothGrad(samples=2),
        lambda: Occlusion(8, 8),
        lambda: GradCAM(slice_axis=2),
    ],
)
def test_volume_network(make: Any) -> None:
    """Slices, chunks and attention, in evaluation and as a step of training takes it."""
    torch.manual_seed(0)
    network, image = MultiViewClassifier(chunk_size=2), torch.randn(2, 1, 4, 16, 16)
    network(image)
    for training in (False, True):
        network.train(training)
        s = make().record(network, image).saliency(torch.tensor([0, 1]), create_graph=True)
        assert s.shape == image.shape and s.isfinite().all()
        s.square().sum().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_zero_rule_is_wbp_on_the_volume_network() -> None:
    torch.manual_seed(0)
    network, image = MultiViewClassifier().double().eval(), torch.randn(2, 1, 4, 16, 16).double()
    s, expected = LRP(Zero(), share_epsilon=0.0)(network, image, 1), WBP()(network, image, 1)
    assert (s - expected).abs().max() <= 1e-10 * expected.abs().max()
