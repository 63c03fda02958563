"""A small network and small volumes in the form of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from ppi_med.networks.multiview import MultiViewClassifier


@pytest.fixture
def network() -> MultiViewClassifier:
    """A network in training mode, none of whose weights or statistics is special."""
    torch.manual_seed(3)
    model = MultiViewClassifier(
        "small_cnn", backbone_options={"widths": (4, 8)}, delta=0.3, chunk_size=3
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    torch.nn.init.normal_(model.attention_head.weight, std=0.3)
    torch.nn.init.constant_(model.attention_head.bias, 3.0)
    torch.nn.init.normal_(model.slice_head.weight, std=2.0)
    return model


def retina(slices: int, depth: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A bright band in noise, `(S, H, W)`."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 60, (slices, depth, width))
    pixels[:, depth // 3 : depth // 2] += rng.integers(80, 150, (slices, 1, width))
    return pixels.astype(np.uint8)


Writer = Callable[[Path, NDArray[np.uint8]], Path]


@pytest.fixture
def write_mat() -> Writer:
    """Write a volume as Duke's `.mat`."""

    def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"images": pixels.transpose(1, 2, 0)})
        return path

    return write
