from __future__ import annotations

import sys
from subprocess import run

import numpy as np
import pytest
from PIL import Image

from ppi_med.evaluation import figures
from ppi_med.evaluation.bootstrap import Interval


def drawn(figure):
    """The figure as an array of colours."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def test_roc_figure_says_area_and_working_point():
    interval = Interval("auc", 0.75, 0.5, 0.9, 0.95, 4, 0)
    figure = figures.roc_figure(
        [0, 1, 0, 1], [0.1, 0.9, 0.4, 0.3], title="site B", interval=interval, threshold=0.35
    )
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "AUC 0.750 (95%: 0.500 to 0.900)" in texts
    assert "2 of 4 cases positive" in texts
    assert "sensitivity 0.50, specificity 0.50" in texts


def test_the_map_shows_its_sign_and_place():
    slices = np.full((1, 20, 30), 0.5)
    maps = np.zeros((1, 20, 30))
    maps[0, 5, 5] = 1.0
    maps[0, 15, 25] = -1.0
    figure = figures.overlay_figure(slices, maps, smoothing=0)
    rgba = figure.axes[1].get_images()[1].get_array()
    red, blue = rgba[5, 5], rgba[15, 25]
    assert red[0] > red[2] and blue[2] > blue[0]
    assert red[3] == blue[3] > 0.8
    assert rgba[..., 3].astype(bool).sum() == 2


def test_one_scale_for_all_slices():
    maps = np.zeros((2, 10, 10))
    maps[0, :2], maps[1, :2] = 1.0, 0.1
    figure = figures.overlay_figure(np.zeros((2, 10, 10)), maps, smoothing=0)
    # The scale of the map has its place beside the first row; the second row comes after it.
    strong, weak = (
        axes.get_images()[1].get_array()[..., 3].max()
        for axes in figure.axes
        if len(axes.get_images()) == 2
    )
    assert weak == pytest.approx(strong / 10, rel=1e-6)


def test_an_outline_is_drawn_where_there_is_a_lesion():
    slices, lesion = np.zeros((1, 20, 20)), np.zeros((1, 20, 20))
    without = drawn(figures.overlay_figure(slices, slices, outlines=lesion))
    lesion[0, 5:10, 5:10] = 1
    assert (drawn(figures.overlay_figure(slices, slices, outlines=lesion)) != without).any()


def test_an_empty_map_is_no_error():
    drawn(figures.overlay_figure(np.zeros((1, 8, 8)), np.zeros((1, 8, 8))))


def test_weights_with_and_without_probabilities():
    plain = figures.slice_weight_figure([0.25, 0.75])
    both = figures.slice_weight_figure([0.25, 0.75], probabilities=[0.1, 0.9], marked=[1])
    assert len(plain.axes) == 1 and len(both.axes) == 2
    heights = [bar.get_height() for bar in both.axes[0].patches]
    assert heights == [0.25, 0.75]
    colours = {bar.get_facecolor() for bar in both.axes[0].patches}
    assert len(colours) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda: figures.overlay_figure(np.zeros((1, 2, 3)), np.zeros((1, 3, 2))),
        lambda: figures.overlay_figure(np.zeros((0, 2, 3)), np.zeros((0, 2, 3))),
        lambda: figures.slice_weight_figure(np.zeros((2, 2))),
        lambda: figures.slice_weight_figure([0.5, 0.5], probabilities=[0.5]),
        lambda: figures.roc_figure([1, 1], [0.1, 0.2]),
    ],
)
def test_wrong_shapes_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def test_a_file_is_written(tmp_path):
    path = figures.save_figure(figures.slice_weight_figure([0.5, 0.5]), tmp_path / "a" / "w.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > 400


def test_pyplot_stays_out():
    code = (
        "import sys, numpy as np; from ppi_med.evaluation import figures;"
        "assert 'matplotlib' not in sys.modules;"
        "figures.overlay_figure(np.zeros((1, 4, 4)), np.ones((1, 4, 4))).canvas.draw();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    run([sys.executable, "-c", code], check=True)
