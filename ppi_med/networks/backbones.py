"""Feature extractors and classifiers by name, with weights from a file."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ppi_med.networks.architectures import Architecture, find_architecture
from ppi_med.networks.weights import StateDict, load_weights, read_state_dict

HeadMode = Literal["new", "load"]
WeightsFile = str | os.PathLike[str]


class AdaptedNetwork(nn.Module):
    """A network after a module that prepares its input."""

    def __init__(self, adapter: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter
        self.body = body

    def forward(self, image: Tensor) -> Tensor:
        """Return the network's output for the prepared image `(N, C, *spatial)`."""
        output: Tensor = self.body(self.adapter(image))
        return output


class Backbone(AdaptedNetwork):
    """A network without its last layer: images `(N, C, *spatial)` to `(N, num_features)`.

    Attributes:
        num_features: length of the feature vector.
    """

    def __init__(self, adapter: nn.Module, body: nn.Module, num_features: int) -> None:
        super().__init__(adapter, body)
        self.num_features = num_features

    def forward(self, image: Tensor) -> Tensor:
        """Return the features `(N, num_features)`."""
        features: Tensor = self.body(self.adapter(image))
        return features.flatten(1)


def create_backbone(
    name: str,
    *,
    in_channels: int = 1,
    spatial_dims: int = 2,
    weights: WeightsFile | None = None,
    channel_mode: ChannelMode = "repeat",
    **options: Any,
) -> Backbone:
    """Return a feature extractor by name: the network without the layer that makes its logits.

    Args:
        name: `small_cnn`, `small_vgg`, `efficientnet_lite0`, a network of torchvision
            (`torchvision:resnet18` or `resnet18`) or of MONAI (`monai:DenseNet121`).
        in_channels: channels of the image.
        spatial_dims: 2; also 1 or 3 for `small_cnn` and for those of MONAI that allow it.
        weights: file with a state dict of the whole classifier or of the features alone, in any
            floating point precision. None: random weights. Nothing is downloaded.
        channel_mode: how a network made for colour reads grey images: `"repeat"` the channel,
            `"sum"` the first layer's weights, or start that layer `"new"`.
        options: further arguments of the network, such as `widths` of `small_cnn`.

    Returns:
        The backbone, in training mode.

    Raises:
        ValueError: if the name is unknown or the weights do not fit.
        FileNotFoundError: if there is no such weights file.
        ImportError: if torchvision is needed and not installed.

    Examples:
        >>> import torch
        >>> backbone = create_backbone("small_cnn", widths=(8, 16))
        >>> backbone(torch.zeros(2, 1, 32, 32)).shape, backbone.num_features
        (torch.Size([2, 16]), 16)
    """
    built = _build(name, 1, in_channels, spatial_dims, weights, options)
    num_features = remove_head(built.network, built.head)
    if built.state is not None and weights is not None:
        ignored = (f"{built.head}.", *built.architecture.extra_heads)
        load_weights(built.network, built.state, weights, ignored)
    adapter = adapt_channels(built.network, in_channels, channel_mode)
    return Backbone(adapter, built.network, num_features)


def create_classifier(
    name: str,
    num_classes: int,
    *,
    in_channels: int = 1,
    spatial_dims: int = 2,
    weights: WeightsFile | None = None,
    head: HeadMode = "new",
    channel_mode: ChannelMode = "repeat",
    **options: Any,
) -> nn.Module:
    """Return a classifier by name: images `(N, C, *spatial)` to logits `(N, num_classes)`.

    Args:
        name: as for `create_backbone`.
        num_classes: number of logits; 1 for a single sigmoid logit.
        in_channels: channels of the image.
        spatial_dims: dimensions of the image.
        weights: as for `create_backbone`.
        head: `"new"`: the last layer starts with random weights, whatever the file holds; `"load"`:
            it is read from the file.
        channel_mode: as for `create_backbone`.
        options: further arguments of the network.

    Returns:
        The network itself if it takes images as they are, else an `AdaptedNetwork`.

    Raises:
        ValueError: if the name is unknown or the weights do not fit.
        FileNotFoundError: if there is no such weights file.
        ImportError: if torchvision is needed and not installed.

    Examples:
        >>> import torch
        >>> create_classifier("small_cnn", 2)(torch.zeros(4, 1, 32, 32)).shape
        torch.Size([4, 2])
    """
    if head not in ("new", "load"):
        raise ValueError(f"head is {head!r}, expected one of new, load.")
    built = _build(name, num_classes, in_channels, spatial_dims, weights, options)
    if built.state is not None and weights is not None:
        ignored = built.architecture.extra_heads
        if head == "new":
            ignored = (f"{built.head}.", *ignored)
        load_weights(built.network, built.state, weights, ignored)
    adapter = adapt_channels(built.network, in_channels, channel_mode)
    if isinstance(adapter, nn.Identity):
        return built.network
    return AdaptedNetwork(adapter, built.network)


class _Built(NamedTuple):
    """A classifier with the number of channels that its weights file, if any, was made for."""

    architecture: Architecture
    network: nn.Module
    head: str
    state: StateDict | None


def _build(
    name: str,
    num_classes: int,
    in_channels: int,
    spatial_dims: int,
    weights: WeightsFile | None,
    options: dict[str, Any],
) -> _Built:
    architecture = find_architecture(name, spatial_dims, options)
    network = architecture.build(num_classes, architecture.channels or in_channels)
    state = None if weights is None else architecture.rename(read_state_dict(weights))
    if state is not None and architecture.channels is None:
        channels = _channels_in(state, network)
        if channels != in_channels:
            network = architecture.build(num_classes, channels)
    return _Built(architecture, network, find_head(network, num_classes), state)


def _channels_in(state: StateDict, network: nn.Module) -> int:
    """Return the channels of the first layer in the file; the network's if the file has none."""
    own = first_convolution(network)
    weight = state.get(f"{first_convolution_name(network)}.weight")
    same_kind = weight is not None and weight.ndim == own.weight.ndim
    return weight.shape[1] if weight is not None and same_kind else own.in_channels


def find_head(network: nn.Module, num_classes: int) -> str:
    """Return the name of the layer that makes the logits: the last linear layer.

    In a network without linear layers, such as SqueezeNet, it is the last convolution.

    Raises:
        ValueError: if that layer gives another number of outputs.
    """
    name, module = _last(network, nn.Linear) or _last(network, nn.Conv2d) or ("", network)
    outputs = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if outputs != num_classes:
        raise ValueError(
            f"{type(network).__name__} has no last layer with {num_classes} outputs (found "
            f"{name or 'none'} with {outputs}): it cannot be used by name, build it yourself."
        )
    return name


def remove_head(network: nn.Module, name: str) -> int:
    """Replace the layer `name` by the identity and return the number of its inputs."""
    head = network.get_submodule(name)
    inputs = head.in_features if isinstance(head, nn.Linear) else head.in_channels
    parent_name, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent_name), child, nn.Identity())
    if not isinstance(inputs, int):
        raise TypeError(f"The layer {name} is {type(head).__name__}, expected linear or conv.")
    return inputs


def _last(network: nn.Module, kind: type[nn.Module]) -> tuple[str, nn.Module] | None:
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    return found[-1] if found else None


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
