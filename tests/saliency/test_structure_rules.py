"""Concatenation, residuals, dropout, interpolation and other linear steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.saliency import recursion as r
from tests.saliency.cases import Case, check, parametrised


class Shapes(nn.Module):
    """Concatenation, residual, split, transposition and flattening of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 2, 1)
        self.third = nn.Conv2d(5, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.first(x), F.relu(self.second(x))], dim=1)
        return x + self.third(x)


def shapes_layers(m: Shapes) -> list[r.Layer]:
    return [
        r.Concatenation(r.Conv(m.first), r.Chain(r.Conv(m.second), r.ReLU())),
        r.Sum(r.Chain(), r.Conv(m.third)),
    ]


def dropped(x: Tensor, p: float, feature: bool) -> Tensor:
    ones = torch.ones_like(x)
    return F.dropout2d(ones, p) if feature else F.dropout(ones, p)


STRUCTURE = [
    Case("concatenation and residual", Shapes, shapes_layers, (2, 2, 4, 5)),
    Case(
        "dropout in training",
        lambda: nn.Dropout(0.4),
        lambda _: [r.Fixed(lambda x: dropped(x, 0.4, False))],
        (2, 3, 6, 5),
        True,
    ),
    Case(
        "dropout of features",
        lambda: nn.Dropout2d(0.4),
        lambda _: [r.Fixed(lambda x: dropped(x, 0.4, True))],
        (4, 6, 3, 3),
        True,
    ),
    Case("dropout in evaluation", lambda: nn.Dropout(0.4), lambda _: [], (2, 3, 6, 5)),
    *(
        Case(
            f"interpolation {mode}",
            lambda m=mode, o=options: lambda x: F.interpolate(x, size=(7, 6), mode=m, **o),
            lambda m: [r.AnyLinear(m)],
            (2, 2, 4, 5),
        )
        for mode, options in [
            ("nearest", {}),
            ("bilinear", {"align_corners": False}),
            ("bicubic", {"align_corners": True}),
            ("area", {}),
        ]
    ),
    Case(
        "interpolation trilinear",
        lambda: nn.Upsample(scale_factor=1.5, mode="trilinear"),
        lambda m: [r.AnyLinear(m)],
        (2, 1, 3, 2, 3),
    ),
    Case(
        "interpolation linear",
        lambda: nn.Upsample(scale_factor=2, mode="linear"),
        lambda m: [r.AnyLinear(m)],
        (2, 1, 5),
    ),
    Case(
        "padding",
        lambda: nn.ReflectionPad2d((1, 2, 0, 1)),
        lambda m: [r.AnyLinear(m)],
        (2, 1, 4, 5),
    ),
    Case("pixel shuffle", lambda: nn.PixelShuffle(2), lambda m: [r.AnyLinear(m)], (2, 4, 2, 3)),
    Case("unfold", lambda: lambda x: F.unfold(x, 2), lambda m: [r.AnyLinear(m)], (2, 1, 3, 4)),
]


@parametrised(STRUCTURE)
def test_structure(case: Case) -> None:
    check(case)
