"""DICOM ophthalmic tomography: one multi-frame object, geometry in the functional groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.data.dicom.pixels import InflatedSizeError, check_inflated_size
from ppi_med.data.dicom.values import stored_values
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.prepare import to_unsigned
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import (
    MAX_BYTES,
    TOLERANCE_MM,
    NotOctError,
    OctReadError,
    OctVolume,
    Spacing,
    between_bscans,
    check_size,
    fault_of,
    normal_laterality,
)

NAME = "dicom"
SOP_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.5.4"
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read an Ophthalmic Tomography object; other DICOM objects are not OCT."""
    from pydicom.errors import InvalidDicomError

    path = source.path
    try:
        return [_read(path, options)]
    except InvalidDicomError as error:
        raise OctReadError(path, "not a DICOM file.") from error
    except BaseException as error:  # pydicom converts late and can raise anything
        if isinstance(error, OctReadError):
            raise
        raise OctReadError(path, f"damaged DICOM file ({fault_of(error)}).") from error


def _read(path: Path, options: ReadOptions) -> OctVolume:
    from pydicom import dcmread

    size = path.stat().st_size
    if size > MAX_BYTES:
        raise OctReadError(
            path, f"{size / 2**30:.1f} GiB; the limit is {MAX_BYTES / 2**30:.0f} GiB."
        )
    with path.open("rb") as stream:
        try:
            check_inflated_size(stream)
        except InflatedSizeError as error:
            raise OctReadError(path, f"{error}.") from error
    head = dcmread(path, stop_before_pixels=True)
    sop_class = str(head.get("SOPClassUID") or "")
    if sop_class != SOP_CLASS:
        name = getattr(head.get("SOPClassUID"), "name", sop_class) or "unknown"
        raise NotOctError(path, f"a DICOM object of another kind: {name}.")
    n_frames = int(head.get("NumberOfFrames") or 1)
    if not 0 < n_frames <= size:
        raise OctReadError(path, f"NumberOfFrames is {n_frames}, more than the file has bytes.")
    order = _frame_order(path, head, n_frames)
    pixels = _pixels(path, head, n_frames)[order]
    kept, rule = to_unsigned(path, pixels, options.window)
    volume = OctVolume(kept, reader=NAME, source=path)
    if rule:
        volume.provenance["pixels"] = rule
    volume.subject_key = str(head.get("PatientID") or "").strip() or None
    volume.meta["manufacturer"] = str(head.get("Manufacturer") or "")
    _add_laterality(volume, head, n_frames)
    _add_spacing(volume, head, order)
    return volume


def _pixels(path: Path, head: Any, n_frames: int) -> Any:
    """Return `(frames, rows, columns)`, sizes checked before the pixels are read."""
    from pydicom import dcmread

    try:
        rows, columns = int(head.Rows), int(head.Columns)
        bits = int(head.BitsAllocated)
        photometric = str(head.PhotometricInterpretation)
        compressed = head.file_meta.TransferSyntaxUID.is_compressed
        deflated = head.file_meta.TransferSyntaxUID.is_deflated
    except (AttributeError, TypeError, ValueError) as error:
        raise OctReadError(path, f"no readable pixels ({fault_of(error)}).") from error
    if photometric not in _MONOCHROME or int(head.get("SamplesPerPixel") or 1) != 1:
        raise OctReadError(path, f"{photometric} pixels, expected one of {list(_MONOCHROME)}.")
    stored = None if compressed or deflated else path.stat().st_size
    check_size(path, (n_frames, rows, columns), max(bits // 8, 1), stored)
    try:
        pixels = np.asarray(dcmread(path).pixel_array).reshape(n_frames, rows, columns)
        if bits != head.get("BitsStored", bits) or "PixelPaddingValue" in head:
            pixels, padding = stored_values(pixels, head)
        else:
            padding = None
    except BaseException as error:  # the bytes can raise anything in a decoder
        hint = " (compressed: is the extra 'dicom' installed?)" if compressed else ""
        raise OctReadError(path, f"pixels cannot be decoded{hint}: {fault_of(error)}") from error
    if photometric == "MONOCHROME1":
        pixels = (2 ** int(head.get("BitsStored") or bits) - 1) - pixels
    # 0 is what was not recorded.
    return pixels if padding is None else np.where(padding, 0, pixels).astype(pixels.dtype)


def _groups(dataset: Any, n_frames: int) -> list[tuple[Any, Any]]:
    """Return each frame's own functional groups, and the shared ones."""
    shared = (list(dataset.get("SharedFunctionalGroupsSequence") or []) or [None])[0]
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    own += [None] * (n_frames - len(own))
    return [(own[index], shared) for index in range(n_frames)]


def _find(groups: tuple[Any, Any], sequence: str, name: str) -> Any:
    """Look up a value in a frame's own groups, then in the shared ones."""
    for group in groups:
        items = list(group.get(sequence) or []) if group is not None else []
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return None


def _frame_order(path: Path, dataset: Any, n_frames: int) -> list[int]:
    """Return the frames sorted by their place in the stack, or as stored if it is unknown."""
    groups = _groups(dataset, n_frames)
    stacks = {str(_find(group, "FrameContentSequence", "StackID") or "") for group in groups}
    if len(stacks) > 1:
        raise OctReadError(
            path, f"{len(stacks)} stacks of frames in one object: export each separately."
        )
    places = [_find(group, "FrameContentSequence", "InStackPositionNumber") for group in groups]
    if any(place is None for place in places) or len(set(places)) < n_frames:
        return list(range(n_frames))
    return sorted(range(n_frames), key=lambda index: int(places[index]))


def _add_laterality(volume: OctVolume, dataset: Any, n_frames: int) -> None:
    texts = {str(dataset.get("ImageLaterality") or "")}
    for groups in _groups(dataset, n_frames):
        texts.add(str(_find(groups, "FrameAnatomySequence", "FrameLaterality") or ""))
    eyes = {normal_laterality(text) for text in texts} - {None}
    if len(eyes) > 1:
        volume.warnings.append("the file names both eyes: the eye stays unknown.")
    elif eyes:
        volume.laterality = eyes.pop()


def _add_spacing(volume: OctVolume, dataset: Any, order: list[int]) -> None:
    all_groups = _groups(dataset, len(order))
    groups = [all_groups[index] for index in order]
    measures = [_find(group, "PixelMeasuresSequence", "PixelSpacing") for group in groups]
    pairs = {tuple(float(v) for v in m) for m in measures if m is not None and len(m) == 2}
    axial = lateral = None
    if len(pairs) == 1 and None not in measures:
        axial, lateral = pairs.pop()  # DICOM: between rows (depth) first, then between columns
    elif pairs:
        volume.warnings.append("the pixel spacing differs from frame to frame: left unknown.")
    stated = _stated(groups)
    measured, reason = _measured(volume, groups, lateral)
    if reason:
        volume.warnings.append(reason)
        stated = None
    if stated is not None and measured and abs(stated - measured) > TOLERANCE_MM:
        volume.warnings.append(
            f"SpacingBetweenSlices says {stated:g} mm, the positions {measured:g} mm: left unknown."
        )
        stated = measured = None
    volume.spacing = Spacing(lateral, axial, measured or stated)


def _stated(groups: list[tuple[Any, Any]]) -> float | None:
    """Return SpacingBetweenSlices if all frames agree on it."""
    found = {_find(g, "PixelMeasuresSequence", "SpacingBetweenSlices") for g in groups} - {None}
    return float(found.pop()) if len(found) == 1 else None


def _measured(
    volume: OctVolume, groups: list[tuple[Any, Any]], lateral: float | None
) -> tuple[float | None, str]:
    """Return the distance between frames from their positions and row directions."""
    starts, ends = [], []
    width = volume.shape[2]
    for group in groups:
        place = _find(group, "PlanePositionSequence", "ImagePositionPatient")
        turn = _find(group, "PlaneOrientationSequence", "ImageOrientationPatient")
        if place is None or turn is None or len(place) != 3 or len(turn) != 6:
            return None, ""
        start = np.array([float(value) for value in place])
        row = np.array([float(value) for value in turn[:3]])
        starts.append(start.tolist())
        ends.append((start + row * (lateral or 0.01) * (width - 1)).tolist())
    return between_bscans(starts, ends)
