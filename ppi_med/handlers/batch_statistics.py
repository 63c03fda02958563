"""Keep running statistics to the clean images while altered images pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let normalisation use batch statistics without moving its running buffers.

    What is removed from an image shifts its statistics; buffers that had seen altered images would
    describe neither kind in evaluation. Layers in evaluation mode are left alone.

    Example:
        >>> import torch
        >>> norm = nn.BatchNorm2d(3)
        >>> with running_statistics_kept(norm):
        ...     _ = norm(torch.randn(4, 3, 5, 5) + 7)
        >>> norm.running_mean.tolist()
        [0.0, 0.0, 0.0]
    """
    tracking = [
        module
        for module in network.modules()
        if isinstance(module, _NormBase) and module.training and module.track_running_stats
    ]
    try:
        for module in tracking:
            # In training mode this makes a layer pass no buffers to the kernel, and nothing else.
            module.track_running_stats = False
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
