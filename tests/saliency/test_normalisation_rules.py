"""Norms with running, batch and sample statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.saliency import recursion as r
from tests.saliency import recursion_norms as norms
from tests.saliency.cases import Case, check, parametrised


def with_statistics(norm: Any) -> Any:
    if norm.running_mean is not None:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return norm


def channels(shape: torch.Size, groups: int) -> list[list[int]]:
    size = math.prod(shape) // groups
    return [list(range(g * size, (g + 1) * size)) for g in range(groups)]


def per_channel(values: Tensor | None, default: float) -> Callable[[torch.Size], Tensor]:
    def made(shape: torch.Size) -> Tensor:
        if values is None:
            return torch.full(shape, default).double()
        return values.view(-1, *([1] * (len(shape) - 1))).expand(shape)

    return made


def group_norm(m: Any, groups: int | None = None) -> list[r.Layer]:
    def indices(shape: torch.Size) -> list[list[int]]:
        return channels(shape, groups or shape[0])

    return [norms.GroupedNorm(indices, per_channel(m.weight, 1.0), per_channel(m.bias, 0.0), m.eps)]


def layer_norm(m: Any, centre: bool = True) -> list[r.Layer]:
    shape = m.normalized_shape

    def indices(sample: torch.Size) -> list[list[int]]:
        return channels(sample, math.prod(sample) // math.prod(shape))

    def expanded(values: Tensor | None, default: float) -> Callable[[torch.Size], Tensor]:
        whole = torch.full(shape, default).double() if values is None else values
        return lambda sample: whole.expand(sample)

    bias = getattr(m, "bias", None)
    return [norms.GroupedNorm(indices, expanded(m.weight, 1.0), expanded(bias, 0.0), m.eps, centre)]


def norm_cases() -> list[Case]:
    cases = []
    for dims, shape in {1: (3, 4, 5), 2: (3, 4, 3, 4), 3: (3, 4, 3, 2, 3)}.items():
        batch, instance = getattr(nn, f"BatchNorm{dims}d"), getattr(nn, f"InstanceNorm{dims}d")
        for training in (False, True):
            for affine in (False, True):
                cases.append(
                    Case(
                        f"batch {dims}d {'batch' if training else 'running'} statistics"
                        f"{' affine' if affine else ''}",
                        lambda b=batch, a=affine: with_statistics(b(4, affine=a)),
                        lambda m: [norms.BatchNorm(m)],
                        shape,
                        training,
                    )
                )
        cases.append(
            Case(
                f"batch {dims}d without running statistics",
                lambda b=batch: b(4, track_running_stats=False),
                lambda m: [norms.BatchNorm(m)],
                shape,
            )
        )
        for affine in (False, True):
            cases.append(
                Case(
                    f"instance {dims}d affine={affine}",
                    lambda i=instance, a=affine: i(4, affine=a),
                    group_norm,
                    shape,
                )
            )
        for training in (False, True):
            cases.append(
                Case(
                    f"instance {dims}d with running statistics, training={training}",
                    lambda i=instance: with_statistics(i(4, affine=True, track_running_stats=True)),
                    lambda m: group_norm(m) if m.training else [norms.BatchNorm(m)],
                    shape,
                    training,
                )
            )
        for groups in (1, 2, 4):
            cases.append(
                Case(
                    f"group {dims}d of {groups}",
                    lambda g=groups: nn.GroupNorm(g, 4),
                    lambda m, g=groups: group_norm(m, g),
                    shape,
                )
            )
    cases.append(
        Case(
            "batch of features",
            lambda: nn.BatchNorm1d(4),
            lambda m: [norms.BatchNorm(m)],
            (5, 4),
            True,
            lambda x: x.view(5, 4, 1),
        )
    )
    cases[-1].module = lambda: nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(4), nn.Unflatten(1, (4, 1))
    )
    cases[-1].layers = lambda m: [norms.BatchNorm(m[1])]
    for shape in ((6,), (4, 6)):
        for affine in (False, True):
            cases.append(
                Case(
                    f"layer over {shape} affine={affine}",
                    lambda s=shape, a=affine: nn.LayerNorm(s, elementwise_affine=a),
                    layer_norm,
                    (2, 3, 4, 6),
                )
            )
            cases.append(
                Case(
                    f"rms over {shape} affine={affine}",
                    lambda s=shape, a=affine: nn.RMSNorm(s, eps=1e-6, elementwise_affine=a),
                    lambda m: layer_norm(m, centre=False),
                    (2, 3, 4, 6),
                )
            )
    cases.append(
        Case(
            "normalize",
            lambda: lambda x: F.normalize(x, dim=1),
            lambda _: [r.Gate(lambda x: 1 / x.square().sum(1, keepdim=True).sqrt())],
            (2, 3, 4, 5),
        )
    )
    return cases


@parametrised(norm_cases())
def test_normalisation(case: Case) -> None:
    check(case)
