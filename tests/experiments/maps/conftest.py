"""A tiny comparison: four small photographs, one bright square each, and a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ppi_med.experiments.maps import Maps
from ppi_med.networks.backbones import create_classifier

SIDE, CLASSES = 36, 3


def make_photographs(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["file,class_index,class_name,x0,y0,x1,y1"]
    for number in range(4):
        pixels = rng.integers(0, 60, (SIDE + 2, SIDE + 2, 3), dtype=np.uint8)
        pixels[8:20, 6 + number : 16 + number] = 220
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        box = f"{6 + number},8,{16 + number},20"
        lines.append(f"images/{number}.png,{number % CLASSES},thing,{box}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    torch.manual_seed(0)
    network = create_classifier("small_cnn", CLASSES, in_channels=3)
    torch.save(network.state_dict(), tmp_path / "weights.pt")

    def make(*methods: str, **options: Any) -> Maps:
        return Maps(
            "small_cnn",
            tmp_path / "weights.pt",
            tmp_path / "photographs",
            methods,
            classes=CLASSES,
            side=SIDE,
            **options,
        )

    make_photographs(tmp_path / "photographs")
    return make
