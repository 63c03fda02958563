"""More answers about nothing: each is warned of in the result, the table, the page and MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ppi_med.evaluation.familiarity import doubts_about_pixels, likeness
from ppi_med.inference import GaOutputs
from ppi_med.networks.multiview import MultiViewClassifier
from tests.inference.conftest import Writer, retina
from tests.inference.test_batch import evaluator, rows

SIZE = (6, 32, 48)
_, ROW, COLUMN = np.indices(SIZE)


def grey(values: NDArray[np.integer] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.asarray(values).astype(np.uint8)


NOTHING: dict[str, tuple[NDArray[np.uint8], str]] = {
    "black": (grey(np.zeros(SIZE)), "% of the pixels have the value 0"),
    "white": (grey(np.full(SIZE, 255)), "% of the pixels have the value 255"),
    "saturated": (grey(np.minimum(retina(*SIZE) * 5.0, 255)), "saturated"),
    "constant slices": (
        grey(np.broadcast_to(np.arange(6)[:, None, None] * 40, SIZE)), "6 of 6 slices have one"),
    "mostly black slices": (
        grey(np.concatenate([retina(2, 32, 48), np.zeros((4, 32, 48))])), "4 of 6 slices"),
    "checkerboard": (grey((ROW + COLUMN) % 2 * 200), "correlate by -1.00 only"),
    "coarse checkerboard": (grey((ROW // 8 + COLUMN // 8) % 2 * 200), "2 grey values"),
    "lines": (grey(ROW % 2 * 200), "a drawing: 2 grey values"),
    "a mask": (grey(retina(*SIZE) > 70) * np.uint8(255), "a drawing: 2 grey values"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_an_answer_about(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier, name: str
) -> None:
    pixels, text = NOTHING[name]
    if "slices" not in name:
        pixels[0, 0, 0] = 7  # the reader refuses a volume of one value
    write_mat(tmp_path / "in" / "a.mat", pixels)
    write_mat(tmp_path / "in" / "b.mat", retina(*SIZE))
    evaluator(network, tmp_path / "in", GaOutputs(tmp_path / "out")).run()
    result = json.loads((tmp_path / "out" / "a" / "result.json").read_text())
    first = result["warnings"][0]
    assert result["likeness"]["unlike_training"]
    assert "the answer means nothing" in first
    assert text in first
    assert rows(tmp_path / "out")["a.mat"]["warning"] == first
    assert "unlike the data of the training" in (tmp_path / "out" / "a" / "report.html").read_text()
    fine = json.loads((tmp_path / "out" / "b" / "result.json").read_text())
    assert not fine["likeness"]["unlike_training"]


@pytest.mark.parametrize("name", NOTHING)
def test_patches_and_photographs_by_the_same_rules(name: str) -> None:
    """Their networks get fractions; white alone may be a window's."""
    pixels, _ = NOTHING[name]
    assert bool(likeness(pixels[:, None].astype(np.float32) / 255 - 0.5).reasons) == (
        name != "saturated"
    )


def test_a_dark_volume_with_some_black_slices_is_one() -> None:
    pixels = np.concatenate([retina(4, 64, 64) // 3, np.zeros((2, 64, 64), np.uint8)])
    pixels[:4, :40] = 0
    assert doubts_about_pixels(pixels) == []
