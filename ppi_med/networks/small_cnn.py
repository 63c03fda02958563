"""Small convolutional networks: one that trains on a CPU in minutes, and VGG11 in any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

Downsampling = Literal["max", "stride"]

_CONV: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_GLOBAL_POOL: dict[int, type[nn.Module]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}


class SmallCNN(nn.Module):
    """Stages of convolution, batch norm and ReLU, each halving the image; then the global mean.

    Args:
        num_classes: number of logits.
        in_channels: channels of the image.
        spatial_dims: 1, 2 or 3.
        widths: channels after each stage.
        downsampling: `"max"`: a max pool after each stage; `"stride"`: a stride in each
            convolution, about four times faster.
        kernel_size: odd, same in all directions.
        convolutions: convolutions of each stage, with batch norm and ReLU each; the first has the
            stride.
        dropout: probability before the last layer.

    Raises:
        ValueError: if an argument is outside its range.

    Examples:
        >>> import torch
        >>> SmallCNN(num_classes=2)(torch.zeros(4, 1, 32, 32)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        spatial_dims: int = 2,
        *,
        widths: Sequence[int] = (16, 32, 64),
        downsampling: Downsampling = "max",
        kernel_size: int = 3,
        convolutions: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(spatial_dims, widths, downsampling, kernel_size, convolutions)
        inputs = (in_channels, *widths[:-1])
        self.features = nn.Sequential(
            *(
                _stage(before, after, spatial_dims, downsampling, kernel_size, convolutions)
                for before, after in zip(inputs, widths, strict=True)
            )
        )
        self.pool = _GLOBAL_POOL[spatial_dims](1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, num_classes)` of an image `(N, C, *spatial)`."""
        pooled: Tensor = self.pool(self.features(image)).flatten(1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def _stage(
    before: int,
    after: int,
    spatial_dims: int,
    downsampling: str,
    kernel_size: int,
    convolutions: int,
) -> nn.Sequential:
    strided = downsampling == "stride"
    layers: list[nn.Module] = []
    for number in range(convolutions):
        layers += [
            _CONV[spatial_dims](
                before if number == 0 else after,
                after,
                kernel_size,
                stride=2 if strided and number == 0 else 1,
                padding=kernel_size // 2,
                bias=False,  # batch norm has its own
            ),
            _NORM[spatial_dims](after),
            nn.ReLU(),
        ]
    if not strided:
        layers.append(_MAX_POOL[spatial_dims](2))
    return nn.Sequential(*layers)


def _check(
    spatial_dims: int,
    widths: Sequence[int],
    downsampling: str,
    kernel_size: int,
    convolutions: int,
) -> None:
    if spatial_dims not in _CONV:
        raise ValueError(f"spatial_dims is {spatial_dims}, expected 1, 2 or 3.")
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}, expected one or more positive numbers.")
    if downsampling not in get_args(Downsampling):
        choices = ", ".join(get_args(Downsampling))
        raise ValueError(f"downsampling is {downsampling!r}, expected one of {choices}.")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}, expected an odd positive number.")
    if convolutions < 1:
        raise ValueError(f"convolutions is {convolutions}, expected 1 or more.")


# Channels of configuration A of Simonyan and Zisserman (2015); "M" is a max pool.
_VGG11: tuple[int | str, ...] = (
    64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M",
)  # fmt: skip


class SmallVGG(nn.Module):
    """VGG11 for small images: eight convolutions, five max pools, the global mean, one layer.

    torchvision's `vgg11` has three linear layers of 4,096 units instead of the last one, for
    images of 224 x 224.

    Args:
        num_classes: number of logits.
        in_channels: channels of the image.
        width: factor of all numbers of channels (default 1: VGG11's own).
        batch_norm: BatchNorm after each convolution (default True).
        dropout: probability before the last layer.

    Raises:
        ValueError: if the width leaves no channel.

    Examples:
        >>> import torch
        >>> SmallVGG(10, width=0.125)(torch.zeros(4, 3, 32, 32)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not width * 64 >= 1:
            raise ValueError(f"width is {width}, expected 1/64 or more: a factor of 64 channels.")
        layers: list[nn.Module] = []
        channels = in_channels
        for entry in _VGG11:
            if isinstance(entry, str):
                layers.append(nn.MaxPool2d(2))
                continue
            wanted = int(entry * width)
            layers.append(nn.Conv2d(channels, wanted, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(wanted))
            layers.append(nn.ReLU())
            channels = wanted
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, num_classes)` of an image `(N, C, H, W)`, 32 pixels or more."""
        logits: Tensor = self.head(self.dropout(self.pool(self.features(image)).flatten(1)))
        return logits
