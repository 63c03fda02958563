"""Each LRP rule against its formula written out layer by layer (lrp_formulas.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import LRP, WBP
from ppi_med.saliency.lrp import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    LRPRule,
    WSquare,
    ZBeta,
    Zero,
)
from tests.saliency import lrp_formulas as f

LOW, HIGH = -4.0, 4.0
SHARE = 1e-9


def box(x: Tensor) -> f.Formula:
    return f.z_beta(torch.full_like(x.flatten(), LOW), torch.full_like(x.flatten(), HIGH))


RULES: dict[str, tuple[LRPRule, Callable[[Tensor], f.Formula]]] = {
    "0": (Zero(), lambda _: f.epsilon(0.0)),
    "0 without bias": (Zero(bias=False), lambda _: f.epsilon(0.0, bias=False)),
    "epsilon": (Epsilon(0.1), lambda _: f.epsilon(0.1)),
    "gamma": (Gamma(0.3), lambda _: f.gamma(0.3)),
    "alpha 2 beta 1": (AlphaBeta(2, 1), lambda _: f.alpha_beta(2, 1)),
    "z+": (AlphaBeta(1, 0), lambda _: f.alpha_beta(1, 0)),
    "w^2": (WSquare(), lambda _: f.w_square()),
    "flat": (Flat(), lambda _: f.flat()),
    "z^beta": (ZBeta(LOW, HIGH), box),
}
rules = pytest.mark.parametrize("name", RULES)


def network(spatial_dims: int) -> nn.Sequential:
    d = spatial_dims - 1
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[d]
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[d]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[d]
    max_pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[d]
    average = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[d]
    return nn.Sequential(
        conv(2, 4, 3, padding=1, groups=2, bias=False),
        norm(4),
        nn.ReLU(inplace=True),
        max_pool(2),
        transposed(4, 4, 2, stride=2, groups=2),
        norm(4),
        nn.SiLU(inplace=True),
        conv(4, 3, 2, padding="same", dilation=1),
        nn.LeakyReLU(0.1),
        average(2),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.LazyLinear(4),
        nn.ReLU(inplace=True),
        nn.Linear(4, 3),
    ).double()


def prepared(spatial_dims: int) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(spatial_dims)
    image = torch.randn(3, 2, *((6,), (4, 4), (2, 2, 2))[spatial_dims - 1]).double()
    module = network(spatial_dims)
    with torch.no_grad():
        module(image)
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.5 + 0.1)
        module(image)
    return module.eval(), image


def written_out(
    module: nn.Sequential, image: Tensor, target: int, formula: Callable[[Tensor], f.Formula]
) -> Tensor:
    """Steps of the network, BatchNorm merged with the convolution before it."""
    steps: list[f.Step] = []
    layers = list(module)
    x = image
    while layers:
        layer = layers.pop(0)
        run = layer
        if isinstance(layer, nn.Dropout | nn.Flatten):
            steps.append(f.Step(layer, passes=lambda r, x: r.view(x.shape)))
        elif "Pool" in type(layer).__name__:
            average = "Avg" in type(layer).__name__
            steps.append(f.Step(layer, f.epsilon(SHARE)) if average else f.to_the_winner(layer))
        elif isinstance(layer, nn.ReLU | nn.SiLU | nn.LeakyReLU):
            run = type(layer)() if not isinstance(layer, nn.LeakyReLU) else nn.LeakyReLU(0.1)
            steps.append(f.Step(run))
        else:
            if layers and "BatchNorm" in type(layers[0]).__name__:
                run = nn.Sequential(layer, layers.pop(0))
            steps.append(f.Step(run, formula(x)))
        with torch.no_grad():
            x = run(x)
    return f.relevance(steps, image, target)


@rules
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_formula_on_every_layer(name: str, spatial_dims: int) -> None:
    rule, formula = RULES[name]
    module, image = prepared(spatial_dims)
    target = torch.tensor([0, 2, 1])
    got = LRP(rule, share_epsilon=SHARE)(module, image, target)
    expected = torch.cat(
        [written_out(module, image[i : i + 1], int(target[i]), formula) for i in range(3)]
    )
    assert expected.abs().max() > 1e-3
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


def test_composite_by_name_place_and_kind() -> None:
    module, image = prepared(2)
    method = LRP(
        Flat(),
        first=WSquare(),
        kinds={"convolution": AlphaBeta(2, 1)},
        names={"7": Gamma(0.3), "1[0-4]": Epsilon(0.1)},
        share_epsilon=SHARE,
    )
    chosen = iter([f.w_square(), f.alpha_beta(2, 1), f.gamma(0.3), f.epsilon(0.1), f.epsilon(0.1)])
    expected = written_out(module, image[:1], 1, lambda _: next(chosen))
    got = method(module, image[:1], 1)
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


def test_batch_norm_with_batch_statistics_is_merged_as_with_fixed_ones() -> None:
    module, image = prepared(2)
    module[10].p = 0.0
    training = LRP(AlphaBeta(2, 1))(module.train(), image, 1)
    for norm in (module[1], module[5]):
        norm.momentum = 1.0
    with torch.no_grad():
        module(image)
        x = image
        module[1].momentum = module[5].momentum = 0.0
        for layer in module:
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_var.copy_(x.var((0, 2, 3), correction=0))
            x = layer(x)
    fixed = LRP(AlphaBeta(2, 1))(module.eval(), image, 1)
    assert (training - fixed).abs().max() <= 1e-9 * fixed.abs().max()


def test_box_of_each_channel() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2)).double()
    image = torch.rand(1, 2, 3, 3).double()
    got = LRP(Epsilon(0.1), first=ZBeta([-1.0, -2.0], [1.0, 3.0]))(module, image, 0)
    low = torch.tensor([-1.0, -2.0]).double().repeat_interleave(9)
    high = torch.tensor([1.0, 3.0]).double().repeat_interleave(9)
    steps = [
        f.Step(module[0], f.z_beta(low, high)),
        f.Step(module[1], passes=lambda r, x: r.view(x.shape)),
        f.Step(module[2], f.epsilon(0.1)),
    ]
    expected = f.relevance(steps, image, 0)
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


class Residual(nn.Module):
    """No biases; a sum, a concatenation, a mean and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(i, 4, 3, padding=1, bias=False) for i in (1, 4))
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        y = self.second(torch.relu(self.second(x)))
        y += x
        return self.head(torch.cat([torch.relu(y), x], 1).mean((2, 3)))


CONSERVING = {
    "0": Zero(),
    "gamma": Gamma(0.3, stabiliser=0.0),
    "z+": AlphaBeta(1, 0, stabiliser=0.0),
    "w^2": WSquare(stabiliser=0.0),
    "flat": Flat(stabiliser=0.0),
    "z^beta": ZBeta(-5.0, 5.0, stabiliser=0.0),
}


@pytest.mark.parametrize("name", CONSERVING)
def test_conservation_without_biases(name: str) -> None:
    torch.manual_seed(0)
    module = Residual().double()
    image = torch.randn(4, 1, 5, 5).double()
    first = ZBeta(-5.0, 5.0, stabiliser=0.0) if name == "z^beta" else None
    rule = Zero() if name == "z^beta" else CONSERVING[name]
    # Where no input speaks for an output z+ is 0, and where a rule feeds dead units a sum may be:
    # relevance that meets 0/0 is lost.
    with torch.no_grad():
        module.first.weight.abs_()
        image = image.abs() if name in {"z+", "w^2", "flat"} else image
    target = torch.tensor([0, 1, 2, 1])
    s = LRP(rule, first=first, share_epsilon=0.0)(module, image, target)
    score = module(image).gather(1, target[:, None])[:, 0].detach()
    assert score.abs().min() > 1e-3
    assert ((s.sum((1, 2, 3)) - score).abs() <= 1e-9 * score.abs()).all()


def test_alpha_beta_conserves_where_every_output_has_both_signs() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 6, bias=False), nn.Softsign(), nn.Linear(6, 3, bias=False)
    ).double()
    image = torch.randn(4, 1, 3, 3).double()
    s = LRP(AlphaBeta(2, 1, stabiliser=0.0))(module, image, 1)
    assert torch.allclose(s.sum((1, 2, 3)), module(image)[:, 1], rtol=1e-9)


def test_biases_left_out_conserve() -> None:
    module, image = prepared(2)
    s = LRP(Zero(bias=False), share_epsilon=0.0)(module, image, 1)
    assert torch.allclose(s.sum((1, 2, 3)), module(image)[:, 1], rtol=1e-9)


def test_epsilon_absorbs() -> None:
    """Conservation fails where the rule says so: the test above could fail."""
    torch.manual_seed(0)
    module = Residual().double()
    image = torch.randn(4, 1, 5, 5).double()
    s = LRP(Epsilon(0.1))(module, image, 1)
    assert ((s.sum((1, 2, 3)) - module(image)[:, 1]).abs() > 1e-2 * module(image)[:, 1].abs()).any()


def test_zero_rule_is_wbp() -> None:
    module, image = prepared(3)
    s, expected = LRP(Zero(), share_epsilon=0.0)(module, image, 2), WBP()(module, image, 2)
    assert (s - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_changed_output_is_not_merged() -> None:
    """Something between layer and BatchNorm: what the layer gave is not what BatchNorm takes."""

    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            x += 1
            return self.norm(x).flatten(1)

    torch.manual_seed(0)
    module = Changed().double().eval()
    image = torch.randn(2, 1, 3, 3).double()
    s, expected = LRP(Zero(), share_epsilon=0.0)(module, image, 2), WBP()(module, image, 2)
    assert (s - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlphaBeta(2, 2), "alpha - beta = 1"),
        (lambda: Epsilon(-1), "epsilon is -1"),
        (lambda: Gamma(float("nan")), "gamma is nan"),
        (lambda: ZBeta(1, 0), "low <= high"),
        (lambda: LRP(kinds={"dense": Flat()}), "unknown kinds"),
        (lambda: LRP(LRP().composite, first=Flat()), "a composite has its own"),
    ],
)
def test_wrong_options_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
