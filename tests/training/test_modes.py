"""Altered images pass through normalisation as clean ones do, and leave no trace in its buffers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppi_med.training.modes import running_statistics_kept

NORMS = {
    "batch": lambda: nn.BatchNorm2d(3),
    "batch, without buffers": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "instance": lambda: nn.InstanceNorm2d(3, affine=True),
    "instance with buffers": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("training", [True, False])
def test_values_and_buffers_stay(name: str, training: bool) -> None:
    torch.manual_seed(0)
    norm = NORMS[name]()
    norm(torch.randn(4, 3, 5, 5) + 2)
    norm.train(training)
    image = torch.randn(4, 3, 5, 5) + 7
    buffers = dict(norm.named_buffers())
    values = {key: value.clone() for key, value in buffers.items()}
    with running_statistics_kept(norm):
        kept = norm(image)
    assert all(buffer is buffers[key] for key, buffer in norm.named_buffers())
    assert all(torch.equal(value, buffers[key]) for key, value in values.items())
    assert torch.equal(kept, norm(image))


def test_buffers_are_back_after_an_error() -> None:
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    with pytest.raises(RuntimeError, match="stop"), running_statistics_kept(norm):
        raise RuntimeError("stop")
    assert norm.track_running_stats and norm.running_mean.tolist() == [0, 0, 0]
