"""The networks that have a name, each as a way to build a classifier."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ppi_med.networks.efficientnet_lite import EfficientNetLite0
from ppi_med.networks.small_cnn import SmallCNN, SmallVGG
from ppi_med.networks.torchvision_shim import ensure_torchvision
from ppi_med.networks.weights import StateDict

_TORCHVISION = "torchvision:"
_MONAI = "monai:"
_OWN = ("small_cnn", "small_vgg", "efficientnet_lite0")


@dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        build: makes a classifier from (number of logits, channels of the image).
        channels: the only possible number of channels, or None if any is possible.
        extra_heads: prefixes of names in weights files that belong to auxiliary heads; these are
            left out if the network has none.
        rename: updates the names in older weights files.
    """

    build: Callable[[int, int], nn.Module]
    channels: int | None = None
    extra_heads: tuple[str, ...] = ()
    rename: Callable[[StateDict], StateDict] = dict


def find_architecture(name: str, spatial_dims: int, options: Mapping[str, Any]) -> Architecture:
    """Return the architecture `name`.

    Args:
        name: `small_cnn`, `small_vgg`, `efficientnet_lite0`, `torchvision:resnet18` (or
            plain `resnet18`), `monai:DenseNet121`.
        spatial_dims: dimensions of the image.
        options: further arguments of the network's constructor.

    Raises:
        ValueError: if the name is unknown or the network cannot have so many dimensions.
        ImportError: if torchvision is needed and not installed.
    """
    if name == "small_cnn":
        return Architecture(lambda k, c: SmallCNN(k, c, spatial_dims, **options))
    if name.startswith(_MONAI):
        return _from_monai(name.removeprefix(_MONAI), spatial_dims, options)
    if spatial_dims != 2:
        raise ValueError(
            f"The network {name!r} takes two-dimensional images, got spatial_dims={spatial_dims}: "
            "take small_cnn or one of MONAI's, such as 'monai:DenseNet121'."
        )
    if name == "small_vgg":
        return Architecture(lambda k, c: SmallVGG(k, c, **options))
    if name == "efficientnet_lite0":
        return Architecture(lambda k, c: EfficientNetLite0(k, c, **options))
    return _from_torchvision(name.removeprefix(_TORCHVISION), options)


def _from_torchvision(name: str, options: Mapping[str, Any]) -> Architecture:
    if not ensure_torchvision():
        raise ImportError(
            f"The network {name!r} is torchvision's, which is not installed: "
            "pip install 'ppi_med[torchvision]', or take one of "
            f"{', '.join(_OWN)} or MONAI's ('monai:DenseNet121')."
        )
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(_unknown(name, [*_OWN, *known]))
    arguments = dict(options)
    if name in ("inception_v3", "googlenet"):
        # One tensor of logits in training too. The slow default initialisation is kept.
        arguments = {"aux_logits": False, "init_weights": True, **arguments}

    def build(num_classes: int, in_channels: int) -> nn.Module:
        network: nn.Module = models.get_model(
            name, weights=None, num_classes=num_classes, **arguments
        )
        return network

    extra = () if arguments.get("aux_logits") else ("AuxLogits.", "aux1.", "aux2.")
    return Architecture(build, channels=3, extra_heads=extra, rename=_current_densenet_names)


def _current_densenet_names(state: StateDict) -> StateDict:
    """Turn `denselayer1.norm.1.weight`, as in torchvision's own files, into `norm1.weight`."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
    return {pattern.sub(r"\1\2", name): value for name, value in state.items()}


# MONAI's families use different names for the numbers of channels and of logits.
_MONAI_FAMILIES: tuple[tuple[str, str, str], ...] = (
    (r"DenseNet\d+", "in_channels", "out_channels"),
    (r"SE(Net154|ResNet\d+|ResNext\d+)", "in_channels", "num_classes"),
    (r"EfficientNetBN", "in_channels", "num_classes"),
    (r"resnet\d+", "n_input_channels", "num_classes"),
    (r"ViT", "in_channels", "num_classes"),
)
_MONAI_EXAMPLES = ("DenseNet121", "SEResNet50", "SEResNext50", "EfficientNetBN", "resnet18", "ViT")
_MONAI_DEFAULTS: dict[str, dict[str, Any]] = {
    "EfficientNetBN": {"model_name": "efficientnet-b0", "pretrained": False},
    "ViT": {"classification": True, "post_activation": None, "patch_size": 16, "img_size": 224},
}


def _from_monai(name: str, spatial_dims: int, options: Mapping[str, Any]) -> Architecture:
    import monai.networks.nets as nets

    family = next((f for f in _MONAI_FAMILIES if re.fullmatch(f[0], name)), None)
    if family is None or not hasattr(nets, name):
        raise ValueError(_unknown(_MONAI + name, [_MONAI + known for known in _MONAI_EXAMPLES]))
    if options.get("pretrained"):
        raise ValueError(
            f"The network {_MONAI}{name} got pretrained=True, which would download: "
            "give weights='path/to/file.pt'."
        )
    _, channels_name, classes_name = family
    arguments = {**_MONAI_DEFAULTS.get(name, {}), **options}

    def build(num_classes: int, in_channels: int) -> nn.Module:
        sizes = {channels_name: in_channels, classes_name: num_classes}
        network: nn.Module = getattr(nets, name)(spatial_dims=spatial_dims, **sizes, **arguments)
        return FirstOutput(network) if name == "ViT" else network

    return Architecture(build)


class FirstOutput(nn.Module):
    """A network that returns several values, of which only the first is used."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Any) -> Any:
        """Return the first of the network's outputs."""
        return self.network(image)[0]


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3) or known[:6]
    return f"There is no network {name!r}: did you mean {', '.join(near)}?"
