"""Modes of a network inside a block, restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Let normalisation use batch statistics without changing its running buffers.

    Removing a part of an image shifts its statistics; buffers updated by altered images would
    describe neither kind in evaluation. Layers in evaluation mode are not changed.

    Examples:
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
    buffers = [(module.running_mean, module.running_var) for module in tracking]
    try:
        for module in tracking:
            # In training mode this makes a layer pass no buffers to the kernel, and nothing else.
            module.track_running_stats = False
            if isinstance(module, _InstanceNorm):  # passes them whatever it tracks
                module.running_mean = module.running_var = None
        yield
    finally:
        for module, (mean, variance) in zip(tracking, buffers, strict=True):
            module.track_running_stats = True
            module.running_mean, module.running_var = mean, variance


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block, then restore each module's mode.

    Examples:
        >>> network = nn.Sequential(nn.Dropout().eval(), nn.Dropout())
        >>> with evaluating(network):
        ...     network[1].training
        False
        >>> [module.training for module in network]
        [False, True]
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
