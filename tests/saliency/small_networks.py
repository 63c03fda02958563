"""Small networks for contract tests, one for each thing that may be left behind or go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mixed(nn.Module):
    """Convolution, BatchNorm, SiLU, an SE gate, a residual in place, dropout and attention."""

    def __init__(self, spatial_dims: int = 2, dropout: float = 0.2, classes: int = 3) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[spatial_dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[spatial_dims - 1]
        self.first, self.norm = conv(1, 4, 3, padding=1), norm(4)
        self.down, self.up = conv(4, 2, 1), conv(2, 4, 1)
        self.second = conv(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.first(x)))
        squeezed = x.flatten(2).mean(2).view(*x.shape[:2], *([1] * (x.ndim - 2)))
        x = x * torch.sigmoid(self.up(self.relu(self.down(squeezed))))
        x = self.dropout(x)
        y = self.second(x)
        y += x
        x = self.relu(y)
        tokens = self.layer_norm(x.flatten(2).permute(2, 0, 1))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(0))


class Plain(nn.Module):
    """Piecewise linear, with BatchNorm and max pooling."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Counting(nn.Module):
    """Changes its buffers and its own mode, draws random numbers, writes into its input."""

    calls: Tensor
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.zeros(4))
        self.register_buffer("absent", None)
        self.inner = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach().flatten()[:4].clone()
        self.inner[0].eval()
        x.mul_(1 + torch.rand(()).to(x.dtype))
        return self.inner(x)


@dataclass(frozen=True)
class Small:
    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    training: bool


def _table() -> list[Small]:
    rows: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        ("plain", Plain, (3, 1, 8, 8)),
        ("mixed 1D", lambda: Mixed(1), (3, 1, 8)),
        ("mixed 2D", lambda: Mixed(2), (3, 1, 6, 5)),
        ("mixed 3D", lambda: Mixed(3), (3, 1, 4, 4, 3)),
        ("counting", Counting, (3, 1, 4, 4)),
    ]
    return [Small(*row, training) for row in rows for training in (False, True)]


NETWORKS = _table()


def build(network: Small, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """Return the network with a batch of images; BatchNorm has seen the images once."""
    torch.manual_seed(0)
    module = network.make().to(dtype)
    image = torch.randn(network.shape, dtype=dtype)
    with torch.no_grad():
        module.train()(image.clone())
    return module.train(network.training), image
