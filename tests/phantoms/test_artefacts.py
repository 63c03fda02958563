"""Marks: small, at a fixed place away from the eye and the border, each at another place."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ppi_med.phantoms.oct.artefacts import MARKS, burn_in, mark
from ppi_med.phantoms.oct.grid import FULL_SIZE, Size
from ppi_med.phantoms.oct.spec import SITES

SIZES = [Size(), Size(48, 64, 8), FULL_SIZE]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", sorted(MARKS))
def test_small_and_off_the_border(name: str, size: Size) -> None:
    where, value = mark(name, size.depth, size.width)
    assert where.shape == value.shape == (size.depth, size.width)
    assert 0.001 < where.mean() < 0.03
    assert not value[~where].any()
    rows, columns = np.nonzero(where)
    assert columns.min() >= 2 and columns.max() < size.width - 2
    assert rows.max() < 0.17 * size.depth or rows.min() > 0.89 * size.depth


def test_no_two_share_a_place() -> None:
    places = {name: mark(name, 64, 80)[0] for name in MARKS}
    for one, two in combinations(places, 2):
        assert not (places[one] & places[two]).any()


def test_every_site_has_a_mark_of_its_own() -> None:
    assert sorted(site.artefact for site in SITES) == sorted(MARKS)


@pytest.mark.parametrize("name", sorted(MARKS))
def test_burnt_into_every_slice_at_the_same_place_and_nowhere_else(name: str) -> None:
    images = np.random.default_rng(0).integers(60, 120, (64, 80, 5)).astype(np.uint8)
    before = images.copy()
    burn_in(images, name)
    where, value = mark(name, 64, 80)
    for k in range(5):
        np.testing.assert_array_equal(images[..., k], np.where(where, value, before[..., k]))
    assert (images != before).any(axis=(0, 1)).all()


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="'stamp' is unknown"):
        mark("stamp", 64, 80)
