"""Which annotations are one nodule: pylidc's rule, and what it cannot decide said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import Annotation, Scan

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

    A cluster of more than four, which pylidc's rule cannot part, holds more than one nodule or a
    reader twice. `readers` are then the four that overlap most with the others, and how many
    readers saw the nodule is not known.
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
    Where that gives a cluster of more than four the limit is lowered by a tenth, for the whole
    scan, down to 0.1.

    Args:
        scan: its slice thickness and positions are used.
        annotations: annotations of the scan.

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
