"""The overlay that shows lesion masks to a baseline: they move with the image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.tiny import BUNDLE, run_bundle, settings


def test_masks_come_along(phantom: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "train.json"), str(BUNDLE / "lesions.json")])
    for key, value in {**settings(phantom, tmp_path), "bundle_root": str(BUNDLE)}.items():
        parser[key] = value
    dataset = parser.get_parsed_content("train#dataset")
    seen = set()
    for item in dataset:
        assert item["lesion"].shape == item["image"].shape
        lesion = torch.as_tensor(item["lesion"]) > 0
        seen.add((int(item["label"]), bool(lesion.any())))
    assert (1, True) in seen and (0, True) not in seen


@pytest.mark.slow
def test_right_reasons_trains(phantom: Path, tmp_path: Path) -> None:
    overrides = settings(phantom, tmp_path, method="right_reasons", max_epochs=1)
    run_bundle(["train.json", "lesions.json"], overrides)
    assert (tmp_path / "run" / "test.json").is_file()
