"""Max pooling by explicit unpooling, average pooling by windows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from tests.saliency import recursion as r
from tests.saliency.cases import Case, check, parametrised


def pool_cases() -> list[Case]:
    cases = []
    for dims, shape in {1: (2, 3, 11), 2: (2, 3, 7, 8), 3: (2, 2, 5, 6, 5)}.items():
        largest = getattr(nn, f"MaxPool{dims}d")
        mean = getattr(nn, f"AvgPool{dims}d")
        for kernel, stride, padding, dilation in [(2, 2, 0, 1), (3, 2, 1, 1), (2, 1, 0, 2)]:
            at = f"{dims}d kernel {kernel} stride {stride} padding {padding} dilation {dilation}"
            cases.append(
                Case(
                    f"max {at}",
                    lambda p=largest, k=kernel, s=stride, q=padding, d=dilation: p(k, s, q, d),
                    lambda m, k=kernel, s=stride, q=padding, d=dilation: [
                        r.MaxPool(r.sliding(k, s, q, d), m)
                    ],
                    shape,
                )
            )
            if dilation == 1:
                cases.append(
                    Case(
                        f"average {at}",
                        lambda p=mean, k=kernel, s=stride, q=padding: p(k, s, q),
                        lambda m, k=kernel, s=stride, q=padding, d=dims: [
                            r.AvgPool(r.sliding(k, s, q), m, area=k**d)
                        ],
                        shape,
                    )
                )
        cases.append(
            Case(
                f"average {dims}d without padding counted",
                lambda p=mean: p(3, 2, 1, count_include_pad=False),
                lambda m: [r.AvgPool(r.sliding(3, 2, 1), m)],
                shape,
            )
        )
        cases.append(
            Case(
                f"adaptive max {dims}d",
                lambda d=dims: getattr(nn, f"AdaptiveMaxPool{d}d")(3),
                lambda m: [r.MaxPool(r.adaptive, m)],
                shape,
            )
        )
        for size in (1, 3):
            cases.append(
                Case(
                    f"adaptive average {dims}d to {size}",
                    lambda d=dims, s=size: getattr(nn, f"AdaptiveAvgPool{d}d")(s),
                    lambda m: [r.AvgPool(r.adaptive, m)],
                    shape,
                )
            )
    cases.append(
        Case(
            "max pool with ceil_mode and indices",
            lambda: lambda x: F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)[0],
            lambda m: [r.MaxPool(r.sliding(2, 2), m)],
            (2, 3, 7, 5),
        )
    )
    return cases


@parametrised(pool_cases())
def test_pooling(case: Case) -> None:
    check(case)
