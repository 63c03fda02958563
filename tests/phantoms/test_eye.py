"""Anatomy and lesions: what a retina must have, checked on maps and on grey values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label as connected

from ppi_med.phantoms.base import stream
from ppi_med.phantoms.oct.anatomy import RETINA
from ppi_med.phantoms.oct.grid import DEPTH_MM, FULL_SIZE, Grid, Size, SmoothNoise
from ppi_med.phantoms.oct.lesions import lesion_map
from ppi_med.phantoms.oct.spec import SITES
from tests.phantoms.eyes import SIZE, maps, volumes

SUBJECTS = [f"A{i:03d}" for i in range(12)]
ANYWHERE = np.ones((3, 3), dtype=int)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_layers_are_ordered_and_leave_room_for_the_marks(subject: str) -> None:
    for volume in volumes(subject, [None, 0.0]):
        ilm, rpe, bruch = np.moveaxis(volume.layer_maps, -1, 0)
        assert ilm.shape == (SIZE.slices, SIZE.width)
        assert (ilm < rpe).all() and (rpe < bruch).all()
        assert ilm.min() > 0.17 * SIZE.depth  # the marks above end there
        assert bruch.max() < 0.85 * SIZE.depth


def test_fovea_is_a_pit_at_its_place() -> None:
    for subject in SUBJECTS[:4]:
        grid, anatomy, _ = maps(subject, [None])
        inner = sum(anatomy.thickness[name] for name in ("RNFL", "GCL", "IPL", "INL"))
        radius = grid.radius(*anatomy.fovea)
        centre, ring = inner[radius < 0.25].mean(), inner[abs(radius - 1.2) < 0.2].mean()
        assert centre < 0.5 * ring
        assert all((anatomy.thickness[name] > 0).all() for name in RETINA)


def test_nasal_side_follows_the_eye() -> None:
    from ppi_med.phantoms.oct.anatomy import draw_anatomy

    grid = Grid.of(SIZE, SIZE.width)
    for eye, side in (("OD", 1), ("OS", -1)):
        fibres = draw_anatomy(stream(0, "x"), grid, eye).thickness["RNFL"].mean(axis=0)
        assert side * (fibres[-8:].mean() - fibres[:8].mean()) > 0.01


@pytest.mark.parametrize("size", [SIZE, Size(32, 32, 8), Size()])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_lesion_is_one_region_on_two_slices_and_grows(subject: str, size: Size) -> None:
    _, _, found = maps(subject, [None, 0.0, 1.0, 2.0], size=size)
    assert not found[0].lesion.any()
    for earlier, later in zip(found, found[1:], strict=False):
        assert (later.lesion >= earlier.lesion).all()
    for visit in found[1:]:
        assert connected(visit.lesion, ANYWHERE)[1] == 1
        assert visit.lesion.any(axis=1).sum() >= 2
    assert found[3].lesion.sum() > found[1].lesion.sum() or size.slices < 16


def test_most_lesions_leave_slices_free() -> None:
    share = [maps(s, [0.0])[2][0].lesion.any(axis=1).mean() for s in SUBJECTS]
    assert 0.1 < np.mean(share) < 0.6
    assert max(share) < 1


@pytest.mark.parametrize("subject", SUBJECTS[:6])
def test_mask_agrees_with_the_label_and_lies_below_the_retina(subject: str) -> None:
    without, with_ga = volumes(subject, [None, 0.0])
    assert not without.lesion.any()
    assert set(np.unique(with_ga.lesion)) == {0, 1}
    _, _, found = maps(subject, [None, 0.0])
    np.testing.assert_array_equal(with_ga.lesion.any(axis=0).T, found[1].lesion)
    rows = np.arange(1, SIZE.depth + 1)[:, None, None]
    above_rpe = rows < with_ga.layer_maps[..., 1].T[None] - 6
    assert not (with_ga.lesion.astype(bool) & above_rpe).any()


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_in_ga_the_rpe_is_darker_and_the_choroid_brighter(site: object) -> None:
    """Against the same eye, same noise, without GA: only the lesion differs."""
    rpe, choroid, elsewhere = [], [], []
    for subject in SUBJECTS[:4]:
        ill = volumes(subject, [0.0], site=site)[0]  # type: ignore[arg-type]
        well = volumes(subject, [None], site=site)[0]  # type: ignore[arg-type]
        change = ill.images.astype(float) - well.images
        rows = np.arange(1, SIZE.depth + 1)[:, None, None]
        bruch = ill.layer_maps[..., 2].T[None]
        lesion = ill.lesion.any(axis=0)[None]
        rpe.append(change[lesion & (abs(rows - bruch + 1.5) < 1)].mean())
        choroid.append(change[lesion & (rows > bruch + 2) & (rows < bruch + 8)].mean())
        elsewhere.append(abs(change[:, ill.lesion.any(axis=(0, 2)) == 0]).mean())
    assert np.mean(rpe) < -15
    assert np.mean(choroid) > 15
    assert np.mean(elsewhere) < 2


def test_distractors_are_the_same_with_and_without_ga() -> None:
    for subject in SUBJECTS[:4]:
        _, _, ill = maps(subject, [0.0])
        _, _, well = maps(subject, [None])
        outside = ill[0].atrophy == 0
        for name in ("thinning", "opacity_db", "drusen", "transmission_db"):
            one, two = getattr(ill[0], name), getattr(well[0], name)
            np.testing.assert_array_equal(one[outside], two[outside])


def test_same_eye_at_every_visit_with_fresh_noise() -> None:
    first, second = volumes("A001", [None, None])
    assert (first.images != second.images).mean() > 0.5
    # shifts of the B-scans are all that moves the layers
    moved = second.layer_maps[..., 2] - first.layer_maps[..., 2]
    assert np.ptp(moved, axis=1).max() < 0.05
    strange = volumes("A002", [None])[0]
    assert np.ptp(strange.layer_maps[..., 2] - first.layer_maps[..., 2], axis=1).max() > 0.5


def test_vessels_cast_shadows() -> None:
    grid, anatomy, _ = maps("A003", [None])
    volume = volumes("A003", [None])[0]
    rows = np.arange(1, SIZE.depth + 1)[:, None, None]
    band = abs(rows - volume.layer_maps[..., 1].T[None]) < 3
    grey = np.ma.masked_array(volume.images, ~band).mean(axis=0).T
    assert (anatomy.vessel > 0.7).sum() > 10
    assert grey[anatomy.vessel > 0.7].mean() < grey[anatomy.vessel < 0.1].mean() - 15


def test_resolution_changes_the_sampling_not_the_eye() -> None:
    small = Grid.of(SIZE, SIZE.width)
    assert Grid.of(FULL_SIZE, 1000).z[-1] == pytest.approx(DEPTH_MM, rel=0.01)
    coarse = maps("A005", [0.0])[2][0].lesion.sum() * small.spacing_mm[0] * small.spacing_mm[2]
    big = Size(64, 256, 64)
    grid, _, found = maps("A005", [0.0], size=big)
    fine = found[0].lesion.sum() * grid.spacing_mm[0] * grid.spacing_mm[2]
    assert coarse == pytest.approx(fine, rel=0.1)
    noise = SmoothNoise(stream(0, "n"), (0.5, 0.5))
    few, many = np.linspace(-3, 3, 61, dtype="f4"), np.linspace(-3, 3, 241, dtype="f4")
    np.testing.assert_allclose(noise(few, few), noise(many, many)[::4, ::4], atol=1e-3)
    values = noise(many, many)
    assert abs(values.mean()) < 0.3 and 0.7 < values.std() < 1.3


def test_no_lesion_before_it_is_seen() -> None:
    from ppi_med.phantoms.oct.lesions import draw_atrophy

    grid = Grid.of(SIZE, SIZE.width)
    mask, degree = lesion_map(draw_atrophy(stream(0, "a"), (0, 0), 3.0), grid, None)
    assert not mask.any() and not degree.any()


@pytest.mark.parametrize("name", ["depth", "width", "slices"])
def test_too_few_samples(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 4"):
        Size(**{name: 4})
