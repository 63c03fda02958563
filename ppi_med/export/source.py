"""The CT series that a map or mask belongs to, read as a checked volume with its headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.header import Header, read_header
from ppi_med.data.dicom.quiet import quiet
from ppi_med.data.dicom.tree import DicomFile, Opener, tree_root, walk_tree
from ppi_med.data.dicom.verdict import Policy
from ppi_med.data.dicom.volume import DicomVolume, GeometryError, read_volume
from ppi_med.errors import MissingFileError, UsageError

# DICOM's type 2 of patient and study: may be empty, may not be absent.
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class Source:
    """A series.

    Attributes:
        volume: HU ``(slices, rows, columns)`` with its affine, see
            :class:`~ppi_med.data.dicom.volume.DicomVolume`.
        datasets: the slices' elements without pixels, in the volume's order; `MAY_BE_EMPTY` are
            empty where a file lacks them.
    """

    volume: DicomVolume
    datasets: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.volume.values.shape
        return slices, rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Between rows, between columns."""
        columns, rows = np.linalg.norm(self.volume.affine[:3, :2], axis=0).tolist()
        return rows, columns

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        """The z of each slice's first pixel."""
        affine = self.volume.affine
        return np.asarray(affine[2, 3] + affine[2, 2] * np.arange(self.shape[0]))

    def check(self, values: NDArray[Any], what: str) -> None:
        """Refuse an array that is not on the series' grid.

        Raises:
            ValueError: naming both shapes.
        """
        if values.shape != self.shape:
            raise ValueError(
                f"the {what} has the shape {values.shape}, expected that of the series, "
                f"{self.shape} (slices, rows, columns)."
            )


def read_source(
    path: str | Path, series_uid: str | None = None, *, policy: Policy | None = None
) -> Source:
    """Read one series of single slices.

    Args:
        path: a folder or zip archive; other files in it are passed over.
        series_uid: which series, where there are several.
        policy: strict by default: no volume rather than a false one.

    Raises:
        MissingFileError: if there is no such folder, or no DICOM image in it.
        UsageError: for several series and no UID, an unknown UID, a series that is no volume or
            is one file of many frames.
    """
    if not Path(path).exists():
        raise MissingFileError(f"There is no {path}, expected a folder or zip archive with DICOM.")
    found = _by_series(path)
    if not found:
        raise MissingFileError(f"{path} holds no DICOM image, expected the slices of a CT series.")
    if series_uid is None and len(found) > 1:
        raise UsageError(
            f"{path} holds {len(found)} series: choose one by its UID, such as {min(found)}."
        )
    wanted = series_uid if series_uid is not None else next(iter(found))
    if wanted not in found:
        raise UsageError(f"{path} holds no series {wanted}, expected one of {sorted(found)}.")
    files, headers = zip(*found[wanted], strict=True)
    base = tree_root(path)
    try:
        volume = read_volume(base, files, headers, policy=policy)
    except GeometryError as error:
        raise UsageError(str(error)) from error
    if len(volume.files) != volume.values.shape[0]:
        raise UsageError(
            f"{volume.files[0].name} holds {volume.values.shape[0]} frames: only series of single "
            "slices are exported."
        )
    return Source(volume, _datasets(base, volume.files))


def _by_series(path: str | Path) -> dict[str, list[tuple[DicomFile, Header]]]:
    found: dict[str, list[tuple[DicomFile, Header]]] = {}
    with Opener(tree_root(path)) as opener:
        for file in walk_tree(path):
            if isinstance(file, DicomFile):
                header = read_header(opener, file)
                if isinstance(header, Header) and header.modality == "CT":
                    found.setdefault(header.series, []).append((file, header))
    return found


def _datasets(base: Path, files: tuple[DicomFile, ...]) -> tuple[Any, ...]:
    import pydicom

    with quiet(), Opener(base) as opener:
        found = []
        for file in files:
            with opener.open(file) as stream:
                found.append(pydicom.dcmread(stream, force=True, stop_before_pixels=True))
        for dataset in found:
            for keyword in MAY_BE_EMPTY:
                # What refers to the series has to have them too.
                if keyword not in dataset:
                    setattr(dataset, keyword, "")
    return tuple(found)
