"""A rule against Table 1 written out layer by layer (recursion.py), in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import WBP
from tests.saliency import recursion as r


@dataclass
class Case:
    """A network, the layers that it should equal, and the shape of its input."""

    name: str
    module: Callable[[], Any]
    layers: Callable[[Any], list[r.Layer]]
    shape: tuple[int, ...]
    training: bool = False
    image: Callable[[Tensor], Tensor] = staticmethod(lambda x: x)


def check(case: Case) -> None:
    torch.manual_seed(0)
    module = case.module()
    if isinstance(module, nn.Module):
        module = module.double().train(case.training)
        with torch.no_grad():
            for p in module.parameters():
                p.copy_(torch.randn_like(p) * 0.5 + 0.1)
    image = case.image(torch.randn(case.shape).double())
    layers = case.layers(module)
    torch.manual_seed(1)
    expected_output = r.Chain(*layers).forward(image.clone())
    readout = torch.randn_like(expected_output)

    def score(output: Tensor) -> Tensor:
        return (output * readout).flatten(1).sum(1)

    torch.manual_seed(1)
    recording = WBP().record(module, image)
    assert_close(recording.output, expected_output)
    torch.manual_seed(1)
    expected = r.relevance(layers, image.clone(), lambda _: readout)
    assert_close(recording.saliency(score), expected)
    assert expected.abs().max() > 1e-3  # else nothing was compared


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    error = (got - expected).abs().max() / expected.abs().max()
    assert error <= 1e-10, f"relative error {float(error):.1e}"


def parametrised(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)
