"""Curves of a network whose answer is known: each measure by hand, files, what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator

from ppi_med.handlers import MapCurves
from ppi_med.saliency import GradientTimesInput
from tests.handlers.test_class_cases import Pixels, loader


class Constant:
    """A map of equal values: its order is that of the pixels."""

    def __call__(self, network: Any, image: torch.Tensor, target: Any) -> torch.Tensor:
        return torch.ones_like(image)


def run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    network = Pixels()
    methods = {"gxi": GradientTimesInput(), "constant": Constant()}
    handler = MapCurves(tmp_path, network, methods, counts=(1, 4, 99), top=2, **options)
    SupervisedEvaluator(
        device="cpu", val_data_loader=loader(), network=network, val_handlers=[handler],
        decollate=False,
    ).run()  # fmt: skip
    return dict(json.loads((tmp_path / "maps.json").read_text()))


def test_curves_are_those_of_removed_pixels(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found["counts"] == [0, 1, 4] and found["images"] == found["measured"] == 7
    rows = list(csv.DictReader((tmp_path / "curves.csv").read_text().splitlines()))
    assert [r["method"] for r in rows] == ["gxi"] * 3 + ["constant"] * 3 + ["random"] * 3
    image = torch.cat([b["image"] for b in loader()])
    label = torch.cat([b["label"] for b in loader()])
    scores = []
    for x, y in zip(image, label, strict=True):
        column = x[0, :, y].clone()
        column[int(column.argmax())] = 0.0  # the highest pixel of the class's own column
        altered = x.clone()
        altered[0, :, y] = column
        scores.append(float(altered.sum((0, 1)).softmax(0)[y]))
    assert float(rows[1]["deletion"]) == pytest.approx(np.mean(scores), abs=1e-5)
    whole = float(image.sum((1, 2)).softmax(1).gather(1, label[:, None]).mean())
    assert float(rows[0]["deletion"]) == pytest.approx(whole, abs=1e-5)
    assert float(rows[1]["reduction"]) == pytest.approx(whole - np.mean(scores), abs=2e-5)
    assert float(rows[0]["insertion"]) == pytest.approx(1 / 3, abs=1e-5)
    own = [float(r["deletion"]) for r in rows[:3]]
    area = found["methods"]["gxi"]["deletion"]
    assert area["mean"] == pytest.approx(np.trapezoid(own, [0, 1, 4]) / 4, abs=1e-4)
    assert area["low"] <= area["mean"] <= area["high"]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_map_that_follows_the_score_beats_one_that_does_not(tmp_path: Path) -> None:
    methods = run(tmp_path)["methods"]
    assert methods["gxi"]["deletion"]["mean"] < methods["random"]["deletion"]["mean"]
    assert methods["gxi"]["insertion"]["mean"] > methods["constant"]["insertion"]["mean"]


def test_boxes_are_measured_where_they_are(tmp_path: Path) -> None:
    methods = run(tmp_path)["methods"]
    # Half of the image is the box; the constant map has half of its energy there.
    assert methods["constant"]["energy_all"]["mean"] == pytest.approx(0.5)
    assert "energy_all" not in methods["random"]


def test_images_that_are_wrong_may_be_left_out(tmp_path: Path) -> None:
    found = run(tmp_path, right_only=True)
    assert found["measured"] == found["right"] < found["images"]


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one or more"):
        MapCurves(tmp_path, Pixels(), {})
    with pytest.raises(ValueError, match="none random"):
        MapCurves(tmp_path, Pixels(), {"random": Constant()})
