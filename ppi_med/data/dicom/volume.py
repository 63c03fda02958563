"""A series as one array in Hounsfield units, ordered along its normal, with its affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.geometry import Reason, Tolerances
from ppi_med.data.dicom.header import Header
from ppi_med.data.dicom.pixels import PixelError, read_slice
from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.dicom.verdict import Policy, Verdict, judge


class GeometryError(ValueError):
    """A series that is no volume; the message names the reasons."""


@dataclass(frozen=True)
class DicomVolume:
    """A series as it lies in the patient.

    Attributes:
        values: `(slices, rows, columns)`, rescaled slice by slice, in a file of many frames by the
            frames' own slope and intercept: int16 where all values are whole and fit, else
            float32. Hounsfield units of a CT, -2000 where nothing was scanned; of another
            modality its own values.
        affine: 4 x 4, from (column, row, slice) to mm in DICOM's coordinates (x to the patient's
            left, y to the back, z to the head). Multiply the first two rows by -1 for NIfTI's.
        files: in the order of the slices; a file of many frames once, at its lowest.
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
    """Read a series as a volume: single slices, files of many frames, or both.

    Args:
        base: the folder that the paths are relative to.
        files: files of the series.
        headers: headers of the files, in the same order.
        policy: strict by default: no volume is better than a false one.
        tolerances: in mm.

    Returns:
        The volume.

    Raises:
        GeometryError: if the series is no volume under the policy.
        PixelError: naming the file whose pixels cannot be had.
    """
    policy = policy or Policy()
    kept = _first_copies(files, headers)
    verdict = judge_files(base, files, headers, policy, tolerances)
    if verdict.status == "refused":
        where = files[0].name if files else "no file"
        reasons = "; ".join(reason.text for reason in verdict.reasons)
        raise GeometryError(f"{where}: its series is no volume: {reasons}.")
    # One entry a slice: which file, which of its frames.
    slices = [
        (number, frame)
        for number, (_, header) in enumerate(kept)
        for frame in range(len(header.places))
    ]
    ordered = [slices[index] for index in verdict.stack.order]
    any_unit = "not_hounsfield" in policy.allow
    frames = [_frames(base, file, header, any_unit) for file, header in kept]
    values = np.stack([frames[number][frame] for number, frame in ordered])
    places = [place for _, header in kept for place in header.places]
    names = tuple(kept[number][0] for number in dict.fromkeys(number for number, _ in ordered))
    return DicomVolume(_compact(values), _affine(places, verdict), names, verdict)


def judge_files(
    base: str | Path,
    files: Sequence[DicomFile],
    headers: Sequence[Header],
    policy: Policy | None = None,
    tolerances: Tolerances | None = None,
) -> Verdict:
    """Judge a series by `judge`, and by the pixels of files that have one SOPInstanceUID.

    Args:
        base: the folder that the paths are relative to.
        files: files of the series.
        headers: headers of the files, in the same order.
        policy: strict by default; only where it keeps copies are these decoded and compared.
        tolerances: in mm.
    """
    policy = policy or Policy()
    verdict = judge(headers, policy, tolerances)
    if verdict.status == "refused" or not verdict.duplicates:
        return verdict
    reason = Reason("duplicate_instances", "files of one SOPInstanceUID have different pixels")
    try:
        differ = _differ(base, files, headers)
    except PixelError as error:
        differ, reason = True, Reason("pixels", error.reason)
    if differ and reason.code in policy.allow:
        verdict.warnings.append(f"{reason.text}: the first is taken.")
    elif differ:
        verdict.status = "refused"
        verdict.reasons.append(reason)
    return verdict


def _differ(base: str | Path, files: Sequence[DicomFile], headers: Sequence[Header]) -> bool:
    first = {header.instance: file for file, header in _first_copies(files, headers)}
    return any(
        not np.array_equal(read_slice(base, file).stored, read_slice(base, original).stored)
        for file, header in zip(files, headers, strict=True)
        if header.instance and (original := first[header.instance]) != file
    )


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


def _frames(base: str | Path, file: DicomFile, header: Header, any_unit: bool) -> NDArray[Any]:
    """Return the values of a file, `(frames, rows, columns)`."""
    try:
        values = read_slice(base, file).values(any_unit=any_unit)
    except ValueError as error:
        if isinstance(error, PixelError):
            raise
        raise PixelError(file.name, str(error)) from error
    expected = (len(header.places), header.rows, header.columns)
    # A file of one frame has no axis of frames.
    values = values[None] if values.ndim == 2 else values
    if values.shape != expected:
        raise PixelError(file.name, f"pixels of the shape {values.shape}, expected {expected}")
    return _compact(values)


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


__all__ = ["DicomVolume", "GeometryError", "judge_files", "read_volume"]
