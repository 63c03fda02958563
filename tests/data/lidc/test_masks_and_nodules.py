"""Outlines, masks and clusters against slow re-implementations, on a database made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.lidc.annotations import (
    Annotation,
    AnnotationDatabase,
    Contour,
    Scan,
    contour_mask,
    find_nodules,
)
from ppi_med.data.lidc.datasets import crop_start
from ppi_med.data.lidc.plan import PatchOptions, SliceFile, make_plan

from .database import circle, make_database, ring


def inside(point: tuple[float, float], polygon: np.ndarray) -> bool:
    """Even-odd rule by one ray, written out."""
    row, column = point
    hits = False
    for (r0, c0), (r1, c1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (r0 > row) != (r1 > row) and column < (c1 - c0) * (row - r0) / (r1 - r0) + c0:
            hits = not hits
    return hits


def slow_mask(
    contours: list[Contour], origin: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for wanted in (True, False):
        for contour in contours:
            if contour.inclusion is not wanted:
                continue
            own = {tuple(point) for point in contour.points.tolist()}
            for i in range(shape[0]):
                for j in range(shape[1]):
                    place = (i + origin[0], j + origin[1])
                    if place in own:
                        mask[i, j] = False
                    elif inside(place, contour.points):
                        mask[i, j] = wanted
    return mask


@settings(max_examples=25, deadline=None)
@given(
    radius=st.integers(2, 9),
    hole=st.integers(0, 4),
    origin=st.tuples(st.integers(-3, 12), st.integers(-3, 12)),
)
def test_masks_equal_the_slow_ones(radius: int, hole: int, origin: tuple[int, int]) -> None:
    contours = [Contour(0.0, True, circle(14, 13, radius))]
    if 0 < hole < radius - 1:
        contours.append(Contour(0.0, False, circle(14, 13, hole)))
    got = contour_mask(contours, origin, (20, 22))
    assert (got == slow_mask(contours, origin, (20, 22))).all()


def test_the_outline_itself_is_outside() -> None:
    points = ring(2, 2, 6, 7)
    mask = contour_mask([Contour(0.0, True, points)], (0, 0), (10, 10))
    assert mask[3:6, 3:7].all() and mask.sum() == 12
    hole = Contour(0.0, False, ring(3, 3, 5, 5))
    mask = contour_mask([Contour(0.0, True, points), hole], (0, 0), (10, 10))
    assert mask.sum() == 12 - 9


def annotation(number: int, row: int, column: int, heights: list[float]) -> Annotation:
    contours = tuple(Contour(z, True, circle(row, column, 4)) for z in heights)
    return Annotation(number, {"malignancy": 3}, contours)


def scan(thickness: float = 2.5) -> Scan:
    return Scan(7, "LIDC-IDRI-9999", "1", "2", thickness, 0.7, False, np.arange(0.0, 50, 2.5))


def test_clusters() -> None:
    close = [annotation(n, 50, 50 + n, [10.0, 12.5]) for n in range(4)]
    far = [annotation(9, 120, 40, [10.0])]
    first, second = find_nodules(scan(), [*close, *far])
    assert [len(first.members), len(second.members)] == [4, 1]
    assert first.nodule_id == "LIDC-IDRI-9999-a0000" and not first.over_four
    assert first.heights == [10.0, 12.5]


def test_a_lower_limit_parts_eight_annotations() -> None:
    one = [annotation(n, 50, 50, [10.0]) for n in range(4)]
    two = [annotation(n, 50, 60, [10.0]) for n in range(4, 8)]  # outlines 2 apart
    assert [len(n.members) for n in find_nodules(scan(), [*one, *two])] == [4, 4]


def test_what_cannot_be_parted_is_said_so() -> None:
    (nodule,) = find_nodules(scan(), [annotation(n, 50, 50 + n, [10.0]) for n in range(5)])
    assert nodule.over_four and len(nodule.members) == 5 and len(nodule.readers) == 4
    assert [reader.annotation_id for reader in nodule.readers] == [0, 1, 2, 3]


def slices(heights: list[float]) -> list[SliceFile]:
    mm = scan().pixel_spacing
    return [
        SliceFile(DicomFile(f"{z}.dcm"), z, i, f"uid{i}", (512, 512), (mm, mm))
        for i, z in enumerate(heights)
    ]


def test_plan_opens_each_slice_once_and_lists_the_missing() -> None:
    nodules = find_nodules(
        scan(), [annotation(1, 50, 50, [10.0, 12.5]), annotation(2, 150, 150, [12.5, 15.0])]
    )
    plan = make_plan(scan(), nodules, slices([7.5, 10.0, 12.5, 17.5]), PatchOptions())
    assert [(s.z_mm, len(w)) for s, w in plan.by_slice] == [(10.0, 1), (12.5, 2)]
    assert [(z, why) for _, z, why in plan.missing] == [(15.0, "the slice is not here")]
    assert (plan.contours, plan.contour_slices) == (3, 3)


def test_padding_and_largest_slice() -> None:
    nodules = find_nodules(scan(), [annotation(1, 50, 50, [10.0, 12.5])])
    all_slices = slices(list(np.arange(0.0, 50, 2.5)))
    plan = make_plan(scan(), nodules, all_slices, PatchOptions(padding_slices=2))
    assert [(s.z_mm, w[0].padding) for s, w in plan.by_slice] == [
        (5.0, True), (7.5, True), (10.0, False), (12.5, False), (15.0, True), (17.5, True),
    ]  # fmt: skip
    plan = make_plan(scan(), nodules, all_slices, PatchOptions(variant="nodule"))
    assert [s.z_mm for s, _ in plan.by_slice] == [10.0]


def test_two_files_at_one_position_are_refused_by_name() -> None:
    nodules = find_nodules(scan(), [annotation(1, 50, 50, [10.0])])
    doubled = slices([10.0, 10.0])
    plan = make_plan(scan(), nodules, doubled, PatchOptions())
    assert not plan.by_slice and "2 slices at this position" in plan.missing[0][2]
    plan = make_plan(scan(), nodules, doubled, PatchOptions(duplicates="lower_instance"))
    assert plan.by_slice[0][0].number == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": 4}, "size is 4, expected 8 to 512"),
        ({"spacing_mm": 0.0}, "spacing_mm is 0.0"),
        ({"majority": 1.5}, "majority is 1.5"),
        ({"variant": "volume"}, "variant is 'volume', expected slices or nodule"),
    ],
)
def test_options_are_checked(change: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PatchOptions(**change)


def test_database(tmp_path) -> None:
    path = make_database(tmp_path / "a.sqlite")
    database = AnnotationDatabase(path)
    found = database.scan("1.2.826.0.1.3680043.8.498.11")
    assert found is not None and found.patient_id == "LIDC-IDRI-9001"
    assert database.scan("1.2.3") is None
    assert len(database.annotations(found)) == 4
    before = path.read_bytes()
    assert path.read_bytes() == before
    with pytest.raises(FileNotFoundError, match="No annotation database"):
        AnnotationDatabase(tmp_path / "none.sqlite")


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 60), column=st.integers(0, 60), side=st.integers(1, 11),
    size=st.integers(12, 71), name=st.text(max_size=4),
)  # fmt: skip
def test_shifted_crops_hold_the_lesion(
    row: int, column: int, side: int, size: int, name: str
) -> None:
    union = np.zeros((71, 71), np.uint8)
    union[row : row + side, column : column + side] = 1
    first, second = crop_start(union, size, "shifted", seed=3, name=name)
    assert 0 <= first <= 71 - size and 0 <= second <= 71 - size
    assert union[first : first + size, second : second + size].sum() == union.sum()
    assert (first, second) == crop_start(union, size, "shifted", seed=3, name=name)
