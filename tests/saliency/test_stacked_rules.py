"""Whole small networks against the recursion of Table 1, layer after layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.saliency import recursion as r
from tests.saliency import recursion_norms as norms
from tests.saliency import slow_activations as slow
from tests.saliency.cases import Case, check
from tests.saliency.test_normalisation_rules import group_norm, layer_norm


class Block(nn.Module):
    """A residual block with BatchNorm, SiLU and an SE gate, as in EfficientNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.act = nn.BatchNorm2d(channels), nn.SiLU(inplace=True)
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(x)))
        return x + self.project(y * self.gate(y))

    def layers(self) -> list[r.Layer]:
        branch = r.Chain(
            r.Conv(self.conv),
            norms.BatchNorm(self.norm),
            r.Activation(slow.silu, 0.5),
            r.Gate(self.gate),
            r.Conv(self.project),
        )
        return [r.Sum(r.Chain(), branch)]


class Convolutional(nn.Module):
    """Stem, two blocks, a concatenation of branches as in Inception, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.left, self.right = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 3, padding=1)
        self.group_norm, self.head = nn.GroupNorm(2, 6), nn.Linear(6, 3)
        self.wide = nn.ConvTranspose2d(5, 6, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = self.blocks(x)
        x = torch.cat([F.gelu(self.left(x)), F.leaky_relu(self.right(x), 0.125)], 1)
        x = F.hardswish(self.group_norm(self.wide(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def layers(self) -> list[r.Layer]:
        def flat_mean(x: Tensor) -> Tensor:
            return x.mean((2, 3))

        return [
            r.Conv(self.stem),
            norms.BatchNorm(self.norm),
            r.ReLU(),
            r.MaxPool(r.sliding(2, 2), lambda x: F.max_pool2d(x, 2)),
            *(layer for block in self.blocks for layer in block.layers()),
            r.Concatenation(
                r.Chain(r.Conv(self.left), r.Activation(slow.gelu, 0.5)),
                r.Chain(r.Conv(self.right), r.Activation(slow.leaky_relu("0.125"), 0.125)),
            ),
            r.ConvTranspose(self.wide),
            *group_norm(self.group_norm, 2),
            r.Activation(slow.hardswish, 0.5),
            r.AnyLinear(flat_mean),
            r.Linear(self.head),
        ]


class Transformer(nn.Module):
    """Patches, class token, position embeddings, one pre-norm block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 4, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(4, 6), nn.GELU("tanh"), nn.Linear(6, 4))
        self.head = nn.Linear(4, 3)

    def tokens(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), 1, 4), x], 1) + self.position

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norms[1](x))
        return self.head(self.norms[2](x)[:, 0])

    def layers(self) -> list[r.Layer]:
        weights = self.attention.in_proj_weight.split(4)
        biases = self.attention.in_proj_bias.split(4)
        project = self.attention.out_proj
        attention = norms.Attention(
            list(zip(weights, biases, strict=True)), (project.weight, project.bias), 2
        )
        mlp = (r.Linear(self.mlp[0]), r.Activation(slow.gelu_tanh, 0.5), r.Linear(self.mlp[2]))
        return [
            r.AnyLinear(self.tokens),
            r.Sum(r.Chain(), r.Chain(*layer_norm(self.norms[0]), attention)),
            r.Sum(r.Chain(), r.Chain(*layer_norm(self.norms[1]), *mlp)),
            *layer_norm(self.norms[2]),
            r.AnyLinear(lambda x: x[:, 0]),
            r.Linear(self.head),
        ]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"), [(Convolutional, (4, 1, 16, 16)), (Transformer, (2, 1, 4, 4))]
)
def test_networks(make: type, shape: tuple[int, ...], training: bool) -> None:
    check(Case(make.__name__, make, lambda m: m.layers(), shape, training))
