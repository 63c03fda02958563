"""Every constant that an operation adds to the signal is collected, however it is spelt."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ppi_med.saliency.engine.forward import RecordedForward
from ppi_med.saliency.engine.rules import FOREIGN_RULES, WBP_RULES
from tests.saliency.test_operations import Function, image, total


def completeness_error(network: Function) -> float:
    x = image().requires_grad_()
    forward = RecordedForward(WBP_RULES, network, foreign=FOREIGN_RULES, collect_constants=True)
    scores = total(forward.run(x)).sum()
    inputs = (x, *(forward.constants or ()))
    with forward.switch:
        weights = torch.autograd.grad(scores, inputs, allow_unused=True)
    parts = sum(
        float((w * v.detach()).sum()) for w, v in zip(weights, inputs, strict=True) if w is not None
    )
    score = float(scores.detach())
    return abs(parts - score) / abs(score)


CONSTANTS: list[tuple[str, Function]] = [
    ("number", lambda x: x + 2),
    ("number on the left", lambda x: 2 - x),
    ("number by keyword", lambda x: torch.add(input=x, other=2.0, alpha=3)),
    ("number in place", lambda x: (x * 1).add_(2).sub_(1)),
    ("tensor by keyword", lambda x: torch.add(input=x, other=torch.ones(6).double())),
    ("tensor on the left", lambda x: torch.ones(6).double() - x),
    ("cat by keyword", lambda x: torch.cat(tensors=[x, torch.ones(3, 4, 2).double()], dim=2)),
    ("stack", lambda x: torch.stack([x, torch.ones_like(x)])[1]),
    ("where", lambda x: torch.where(x > 0, x, torch.ones_like(x))),
    ("maximum", lambda x: torch.maximum(x, torch.full((6,), 0.5).double())),
    ("linear", lambda x: F.linear(x, torch.ones(2, 6).double(), bias=torch.ones(2).double())),
    ("conv", lambda x: F.conv1d(x, torch.ones(2, 4, 1).double(), torch.ones(2).double())),
    (
        "addmm",
        lambda x: torch.addmm(torch.ones(3).double(), x.flatten(1), torch.ones(24, 3).double()),
    ),
    ("baddbmm", lambda x: torch.baddbmm(torch.ones(3, 4, 4).double(), x.softmax(2), x.mT)),
    ("sigmoid", torch.sigmoid),
    ("sigmoid in place", lambda x: (x * 1).sigmoid_()),
    ("softplus", lambda x: F.softplus(x, beta=3)),
    ("hardsigmoid in place", lambda x: F.hardsigmoid(x * 1, inplace=True)),
    ("threshold", lambda x: F.threshold(x, 0.5, 2.0)),
    ("clamp", lambda x: x.clamp(min=1)),
    (
        "layer norm",
        lambda x: F.layer_norm(x, (6,), torch.full((6,), 2.0).double(), torch.ones(6).double()),
    ),
    (
        "group norm",
        lambda x: F.group_norm(x, 2, torch.full((4,), 2.0).double(), torch.ones(4).double()),
    ),
    (
        "instance norm",
        lambda x: F.instance_norm(
            x, weight=torch.full((4,), 2.0).double(), bias=torch.ones(4).double()
        ),
    ),
    (
        "batch norm",
        lambda x: F.batch_norm(
            x, None, None, torch.full((4,), 2.0).double(), torch.ones(4).double(), True
        ),
    ),
]


@pytest.mark.parametrize("network", [r[1] for r in CONSTANTS], ids=[r[0] for r in CONSTANTS])
def test_constants_are_collected(network: Function) -> None:
    assert completeness_error(network) <= 1e-10
