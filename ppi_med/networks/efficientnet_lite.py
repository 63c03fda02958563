"""EfficientNet-Lite0: depthwise convolutions and ReLU6, without gates or smooth activations.

Parameter names are those of the `tf_efficientnet_lite0` checkpoints, so their files load.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

_BATCH_NORM_EPS = 1e-3
_EXPANSION = 6
_STEM_WIDTH = 32
_HEAD_WIDTH = 1280


class _Stage(NamedTuple):
    width: int
    kernel_size: int
    stride: int
    blocks: int


_FIRST_WIDTH = 16
_STAGES = (
    _Stage(24, 3, 2, 2),
    _Stage(40, 5, 2, 2),
    _Stage(80, 3, 2, 3),
    _Stage(112, 5, 1, 3),
    _Stage(192, 5, 2, 4),
    _Stage(320, 3, 1, 1),
)


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: an odd pixel goes to the right and bottom."""

    def forward(self, image: Tensor) -> Tensor:
        """Return `ceil(size / stride)` pixels along each axis."""
        top, bottom = _padding(image.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = _padding(image.shape[-1], self.kernel_size[1], self.stride[1])
        padded = F.pad(image, [left, right, top, bottom])
        convolved: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return convolved


def _padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    outputs = (size + stride - 1) // stride
    total = max((outputs - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BATCH_NORM_EPS)


def _conv(before: int, after: int, kernel_size: int, **options: Any) -> SamePadConv2d:
    return SamePadConv2d(before, after, kernel_size, bias=False, **options)


class _FirstBlock(nn.Module):
    """Depthwise, then pointwise convolution; no residual."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv_dw = _conv(before, before, 3, groups=before)
        self.bn1 = _batch_norm(before)
        self.conv_pw = _conv(before, after, 1)
        self.bn2 = _batch_norm(after)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_dw(x)))
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class _InvertedResidual(nn.Module):
    """Pointwise widening, depthwise convolution, linear pointwise narrowing."""

    def __init__(self, before: int, after: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        wide = before * _EXPANSION
        self.residual = stride == 1 and before == after
        self.conv_pw = _conv(before, wide, 1)
        self.bn1 = _batch_norm(wide)
        self.conv_dw = _conv(wide, wide, kernel_size, stride=stride, groups=wide)
        self.bn2 = _batch_norm(wide)
        self.conv_pwl = _conv(wide, after, 1)
        self.bn3 = _batch_norm(after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        out: Tensor = self.bn3(self.conv_pwl(y))
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (4.7 million parameters, 1,280 features).

    The checkpoint trained on ImageNet expects RGB as `(value - 127) / 128` of 0..255.

    Args:
        num_classes: number of logits.
        in_channels: channels of the image.

    Examples:
        >>> import torch
        >>> EfficientNetLite0(num_classes=2).eval()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 2])
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv_stem = _conv(in_channels, _STEM_WIDTH, 3, stride=2)
        self.bn1 = _batch_norm(_STEM_WIDTH)
        self.blocks = nn.Sequential(
            nn.Sequential(_FirstBlock(_STEM_WIDTH, _FIRST_WIDTH)), *_inverted_stages()
        )
        self.conv_head = _conv(_STAGES[-1].width, _HEAD_WIDTH, 1)
        self.bn2 = _batch_norm(_HEAD_WIDTH)
        self.classifier = nn.Linear(_HEAD_WIDTH, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, num_classes)` of an image `(N, C, H, W)`."""
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(image))))
        x = F.relu6(self.bn2(self.conv_head(x)))
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _inverted_stages() -> list[nn.Sequential]:
    stages = []
    before = _FIRST_WIDTH
    for stage in _STAGES:
        blocks: list[nn.Module] = []
        for index in range(stage.blocks):
            stride = stage.stride if index == 0 else 1
            blocks.append(_InvertedResidual(before, stage.width, stage.kernel_size, stride))
            before = stage.width
        stages.append(nn.Sequential(*blocks))
    return stages
