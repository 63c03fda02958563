"""A series as one array in Hounsfield units, ordered along its normal, with its affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.geometry import Tolerances
from ppi_med.data.dicom.header import Header
from ppi_med.data.dicom.pixels import PixelError, read_slice, to_hounsfield
from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.dicom.verdict import Policy, Verdict, judge

_NO_RESCALE = "rescale slope and intercept are no numbers, or not one a frame"


class GeometryError(ValueError):
    """A series that is no volume; the message names the reasons."""


@dataclass(frozen=True)
class DicomVolume:
    """A series as it lies in the patient.

    Attributes:
        values: `(slices, rows, columns)`, rescaled slice by slice, in a file of many frames by the
            frames' own slope and intercept: float32, or int16 where all
            values are whole and fit.
        affine: 4 x 4, from (column, row, slice) to mm in DICOM's coordinates (x to the patient's
            left, y to the back, z to the head). Multiply the first two rows by -1 for NIfTI's.
        files: in the order of the slices.
        verdict: with the warnings that were accepted.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    files: tuple[DicomFile, ...]
    verdict: Verdict


def read_volume(
    base: str | Path,
    files: Sequence[DicomFile],
    headers: Sequence[Header],
    *,
    policy: Policy | None = None,
    tolerances: Tolerances | None = None,
) -> DicomVolume:
    """Read a series of single slices, or one file of many frames, as a volume.

    Args:
        base: the folder that the paths are relative to.
        files: of the series.
        headers: of the files, in the same order.
        policy: strict by default: no volume rather than a false one.
        tolerances: in mm.

    Returns:
        The volume.

    Raises:
        GeometryError: if the series is no volume under the policy.
        PixelError: naming the file whose pixels cannot be had.
    """
    kept = _first_copies(files, headers)
    verdict = judge(headers, policy, tolerances)
    if verdict.status == "refused":
        where = files[0].name if files else "no file"
        reasons = "; ".join(reason.text for reason in verdict.reasons)
        raise GeometryError(f"{where}: its series is no volume: {reasons}.")
    order = verdict.stack.order
    if len(kept) == 1:
        frames = _values(base, kept[0][0])
        # A file of one frame has no axis of frames.
        values = (frames[None] if frames.ndim == 2 else frames)[order]
        ordered: tuple[DicomFile, ...] = (kept[0][0],)
    else:
        ordered = tuple(kept[index][0] for index in order)
        values = np.stack([_values(base, file) for file in ordered])
    places = [place for _, header in kept for place in header.places]
    return DicomVolume(_compact(values), _affine(places, verdict), ordered, verdict)


def _first_copies(
    files: Sequence[DicomFile], headers: Sequence[Header]
) -> list[tuple[DicomFile, Header]]:
    seen: set[str] = set()
    kept = []
    for file, header in zip(files, headers, strict=True):
        if not header.instance or header.instance not in seen:
            seen.add(header.instance)
            kept.append((file, header))
    return kept


def _values(base: str | Path, file: DicomFile) -> NDArray[Any]:
    found = read_slice(base, file)
    try:
        return to_hounsfield(found.stored, found.dataset)
    except ValueError as error:
        raise PixelError(file.name, _NO_RESCALE) from error


def _compact(values: NDArray[Any]) -> NDArray[Any]:
    whole = values.dtype.kind in "iu"
    if whole and values.min() >= -(2**15) and values.max() < 2**15:
        return values.astype(np.int16)
    return values.astype(np.float32)


def _affine(places: Sequence[Any], verdict: Verdict) -> NDArray[np.float64]:
    first, last = places[verdict.stack.order[0]], places[verdict.stack.order[-1]]
    between_rows, between_columns = first.spacing
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * between_columns
    affine[:3, 1] = np.array(first.orientation[3:]) * between_rows
    steps = max(1, len(verdict.stack.order) - 1 + verdict.stack.gaps)
    affine[:3, 2] = (np.array(last.position) - np.array(first.position)) / steps
    affine[:3, 3] = first.position
    return affine


__all__ = ["DicomVolume", "GeometryError", "read_volume"]
