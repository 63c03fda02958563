"""VGG11's convolutions in any width, with a linear layer on their global mean."""

from __future__ import annotations

from torch import Tensor, nn

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
        ValueError: where the width leaves no channel.

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
