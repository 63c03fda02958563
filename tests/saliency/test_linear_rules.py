"""Linear layers, convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

from torch import nn

from tests.saliency import recursion as r
from tests.saliency.cases import Case, check, parametrised

LINEAR = [
    Case("linear", lambda: nn.Linear(5, 4), lambda m: [r.Linear(m)], (3, 2, 5)),
    Case(
        "linear without bias",
        lambda: nn.Linear(5, 4, bias=False),
        lambda m: [r.Linear(m)],
        (3, 2, 5),
    ),
]
_OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"stride": 2},
    {"padding": 1},
    {"dilation": 2},
    {"groups": 2},
    {"stride": 3, "padding": 2, "dilation": 2, "groups": 2},
]
_SHAPES = {1: (2, 4, 11), 2: (2, 4, 9, 8), 3: (2, 4, 7, 6, 7)}


def conv_cases() -> list[Case]:
    cases = []
    for dims, shape in _SHAPES.items():
        conv = getattr(nn, f"Conv{dims}d")
        transposed = getattr(nn, f"ConvTranspose{dims}d")
        for options in _OPTIONS:
            name = f"{dims}d {options}"
            cases.append(
                Case(
                    f"conv {name}",
                    lambda c=conv, o=options: c(4, 6, 3, **o),
                    lambda m: [r.Conv(m)],
                    shape,
                )
            )
            cases.append(
                Case(
                    f"conv transposed {name}",
                    lambda c=transposed, o=options: c(
                        4, 6, 3, **o, output_padding=1 if o.get("stride", 1) > 1 else 0
                    ),
                    lambda m: [r.ConvTranspose(m)],
                    shape,
                )
            )
    cases.append(
        Case(
            "conv of unequal strides",
            lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 3), padding=(2, 0), dilation=(1, 2)),
            lambda m: [r.Conv(m)],
            (2, 4, 9, 8),
        )
    )
    for mode in ("reflect", "circular", "replicate"):
        cases.append(
            Case(
                f"conv padded by {mode}",
                lambda mode=mode: nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode),
                lambda m: [r.AnyLinear(m)],
                (2, 2, 5, 4),
            )
        )
    cases.append(
        Case(
            "conv padded to the same size",
            lambda: nn.Conv2d(2, 3, (2, 4), padding="same"),
            lambda m: [r.AnyLinear(m)],
            (2, 2, 5, 4),
        )
    )
    return cases


@parametrised(LINEAR)
def test_linear(case: Case) -> None:
    check(case)


@parametrised(conv_cases())
def test_convolution(case: Case) -> None:
    check(case)
