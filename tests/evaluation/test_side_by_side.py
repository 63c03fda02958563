"""The side-by-side figure: one panel a method, drawn to its own scale, on grey."""

from __future__ import annotations

import numpy as np
import pytest

from ppi_med.evaluation.side_by_side import side_by_side_figure

rng = np.random.default_rng(0)
IMAGES = rng.random((2, 12, 10, 3))
MAPS = {"wbp": rng.normal(size=(2, 12, 10)), "gradcam": 1e-6 * rng.random((2, 12, 10))}


def test_panels_and_scales() -> None:
    masks = np.zeros((2, 12, 10), dtype=bool)
    masks[:, 2:6, 3:8] = True
    figure = side_by_side_figure(IMAGES, MAPS, names=["a", "b"], masks=masks)
    figure.canvas.draw()
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "wbp", "gradcam"]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["a", "b"]
    for axes in (figure.axes[1], figure.axes[2]):
        shown = np.asarray(axes.images[1].get_array())
        # Whatever the unit of a method, its strongest points are opaque.
        assert shown[..., 3].max() == pytest.approx(0.85)
        assert axes.collections  # the outline
    reds = np.asarray(figure.axes[1].images[1].get_array())[..., 0] > 0.5
    assert np.array_equal(reds, MAPS["wbp"][0] >= 0)


def test_an_empty_map_is_drawn_empty() -> None:
    figure = side_by_side_figure(IMAGES[..., 0], {"none": np.zeros((2, 12, 10))})
    assert np.asarray(figure.axes[1].images[1].get_array())[..., 3].max() == 0


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="map 'wbp' has shape"):
        side_by_side_figure(IMAGES, {"wbp": np.zeros((2, 3, 12, 10))})
    with pytest.raises(ValueError, match="at least one map"):
        side_by_side_figure(IMAGES, {})
