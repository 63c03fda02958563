from __future__ import annotations

import numpy as np
import pytest
import torch

from ppi_med.data.lidc.transforms import SamplePatchd
from ppi_med.experiments.weak_segmentation.cases import case_of, view_of
from ppi_med.experiments.weak_segmentation.maps import network_image
from ppi_med.segmentation.grid import NetworkGrid, normalised_ct
from tests.segmentation.made import disc, made_case


@pytest.mark.parametrize("mode", ["centred", "shifted"])
@pytest.mark.parametrize("field", [None, 14.0, 15.1])
@pytest.mark.parametrize("size", [16, 21])
def test_the_network_sees_what_the_bundle_gives_it(
    mode: str, field: float | None, size: int
) -> None:
    case = made_case(3, "test")
    grid = NetworkGrid(size, field)
    view = view_of(case, grid, mode, seed=5)  # type: ignore[arg-type]
    item = {
        "image": normalised_ct(torch.from_numpy(case.image)[None]),
        "lesion": torch.from_numpy(case.union[None].astype(np.uint8)),
        "spacing_mm": torch.tensor(case.spacing_mm),
        "volume_id": case.name,
    }
    bundle = SamplePatchd("image", size, field, crop_mode=mode, seed=5)(item)  # type: ignore[arg-type]
    assert torch.allclose(network_image(view, grid), bundle["image"], atol=1e-4)


@pytest.mark.parametrize("mode", ["centred", "shifted"])
@pytest.mark.parametrize("field", [None, 15.0])
def test_a_map_goes_back_to_the_pixels_it_came_from(mode: str, field: float | None) -> None:
    case = made_case(4, "test")
    grid = NetworkGrid(60, field)
    view = view_of(case, grid, mode, seed=2)  # type: ignore[arg-type]
    patch = torch.from_numpy(disc(15, 15, 4).astype(np.float64))[None]
    seen = grid.image(patch, case.spacing_mm, view.window)
    back = grid.back(seen, (31, 31), case.spacing_mm, view.window)[0].numpy()
    wanted = view.window.cut(patch[0].numpy())
    assert back.shape == wanted.shape
    assert np.corrcoef(back.ravel(), wanted.ravel())[0, 1] > 0.97
    assert ((back > 0.5) == (wanted > 0.5)).mean() > 0.98


def test_a_shifted_window_moves_image_and_masks_alike() -> None:
    case = made_case(5, "test")
    grid = NetworkGrid(20, 14.0)
    centred, shifted = view_of(case, grid), view_of(case, grid, "shifted", seed=1)
    assert centred.window.start != shifted.window.start
    assert shifted.union.sum() == case.union.sum()
    row, column = shifted.window.start
    part = slice(row, row + 20), slice(column, column + 20)
    assert (shifted.image == case.image[part]).all()
    assert (shifted.readers == case.readers[:, part[0], part[1]]).all()
    again = view_of(case, grid, "shifted", seed=1)
    assert again.window == shifted.window
    others = {view_of(case, grid, "shifted", seed=s).window.start for s in range(8)}
    assert len(others) > 3


def test_references_are_the_readers_with_an_outline() -> None:
    view = view_of(made_case(1, "test"), NetworkGrid(20))
    assert list(view.references) == ["union", "majority", "reader1", "reader3"]


@pytest.mark.parametrize("key", ["readers", "spacing_mm", "union"])
def test_a_missing_key_is_named(key: str) -> None:
    item = {
        "image": np.zeros((1, 3, 3)),
        "readers": np.ones((1, 3, 3)),
        "state": [2],
        "union": np.ones((1, 3, 3)),
        "majority": np.ones((1, 3, 3)),
        "spacing_mm": 1.0,
        "subject": "p",
        "volume_id": "x",
    }
    del item[key]
    with pytest.raises(ValueError, match="lesion" if key == "union" else key):
        case_of(item, "test")


def test_wrong_grids() -> None:
    for options in ({"size": 0}, {"size": 8, "field_mm": 0.0}):
        with pytest.raises(ValueError, match="expected both above 0"):
            NetworkGrid(**options)  # type: ignore[arg-type]
