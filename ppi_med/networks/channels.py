"""How a network made for colour reads images with another number of channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ChannelMode = Literal["repeat", "sum", "new"]
"""`"repeat"`: the grey channel is given to each input channel. `"sum"`: the first
convolution's weights are summed over its input channels, which gives the same result at a lower
cost. `"new"`: the first convolution starts afresh, for any number of channels."""

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


class RepeatChannels(nn.Module):
    """Repeats the one channel of an image `(N, 1, *spatial)`.

    Examples:
        >>> RepeatChannels(3)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, image: Tensor) -> Tensor:
        """Return the image with `copies` equal channels."""
        return torch.cat([image] * self.copies, dim=1)


def adapt_channels(network: nn.Module, in_channels: int, mode: ChannelMode) -> nn.Module:
    """Prepare a network for images of `in_channels` channels.

    Args:
        network: changed in place for "sum" and "new".
        in_channels: channels of the images.
        mode: what to do if the network takes another number.

    Returns:
        The module for the images to pass through first.

    Raises:
        ValueError: if the mode is unknown or cannot give this number of channels.
    """
    conv = first_convolution(network)
    if conv.in_channels == in_channels:
        return nn.Identity()
    if mode not in ("repeat", "sum", "new"):
        raise ValueError(f"channel_mode is {mode!r}, expected one of repeat, sum, new.")
    if mode == "new":
        _set_weight(conv, torch.empty_like(conv.weight[:, :1]).repeat_interleave(in_channels, 1))
        conv.reset_parameters()
        return nn.Identity()
    if in_channels != 1:
        raise ValueError(
            f"channel_mode {mode!r} gives one channel to a network of {conv.in_channels}, got "
            f"images of {in_channels}: take channel_mode 'new', whose first layer starts afresh."
        )
    if mode == "repeat":
        return RepeatChannels(conv.in_channels)
    _set_weight(conv, conv.weight.detach().sum(1, keepdim=True))
    return nn.Identity()


def first_convolution(network: nn.Module) -> _Conv:
    """Return the convolution that sees the image.

    Raises:
        ValueError: if the network has none.
    """
    return next(iter(_convolutions(network).values()))


def first_convolution_name(network: nn.Module) -> str:
    """Return the name of the convolution that sees the image.

    Raises:
        ValueError: if the network has none.
    """
    return next(iter(_convolutions(network)))


def _convolutions(network: nn.Module) -> dict[str, _Conv]:
    """Return the network's convolutions by name, in order of registration."""
    found = {name: module for name, module in network.named_modules() if isinstance(module, _Conv)}
    if not found:
        raise ValueError(
            f"{type(network).__name__} has no convolution: its channels cannot be adapted, give "
            "it images of the number of channels that it was made for."
        )
    return found


def _set_weight(conv: _Conv, weight: Tensor) -> None:
    conv.weight = nn.Parameter(weight)
    conv.in_channels = weight.shape[1]
