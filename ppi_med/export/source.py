"""The CT series that a map or mask belongs to: a checked volume, and what refers to its slices.

Everything that an export needs from a series is checked here, before anything is written.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.data.dicom.header import Header, Place, read_header
from ppi_med.data.dicom.pixels import PixelError, quiet
from ppi_med.data.dicom.pseudonyms import Pseudonyms, load_key
from ppi_med.data.dicom.tree import DicomFile, FileProblem, Opener, tree_root, walk_tree
from ppi_med.data.dicom.verdict import Policy, export_problem
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
# Copied if the series has them. The last two say that the series is not identified.
_IF_THERE = (
    "IssuerOfPatientID",
    "PatientAge",
    "StudyDescription",
    "BodyPartExamined",
    "PositionReferenceIndicator",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
_CHARACTER_SET = "SpecificCharacterSet"
_TEXTS = [*MAY_BE_EMPTY, *_IF_THERE, "FrameOfReferenceUID"]
_TAGS = [*_TEXTS, _CHARACTER_SET, "SharedFunctionalGroupsSequence"]
_UNREADABLE = ("damaged", "unreadable", "archive")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SliceReference:
    """One slice, as other objects refer to it.

    Attributes:
        sop_class: SOP class of its file.
        instance: SOPInstanceUID in its file.
        frame: from 1 in a file of many frames, else None.
        place: position, orientation and pixel spacing as the file states them.
    """

    sop_class: str
    instance: str
    frame: int | None
    place: Place


@dataclass(frozen=True)
class Source:
    """A series.

    Attributes:
        volume: HU `(slices, rows, columns)` with its affine, see
            `DicomVolume`.
        slices: in the volume's order, ascending along the normal.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID.
        thickness_mm: thickness of a slice; the step between slices where the series states none, or
            several.
        body_part: BodyPartExamined, or "".
        elements: pydicom's data set of patient and study, undecoded, with the character set of the
            series; `MAY_BE_EMPTY` are empty if the series lacks them.
    """

    volume: DicomVolume
    slices: tuple[SliceReference, ...]
    study: str
    series: str
    frame_of_reference: str
    thickness_mm: float
    body_part: str
    elements: Any

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

    @cached_property
    def step_mm(self) -> float:
        """From one slice to the next."""
        return float(np.linalg.norm(self.volume.affine[:3, 2]))

    def check(self, shape: tuple[int, ...], what: str) -> None:
        """Refuse the shape of an array that is not on the series' grid.

        Raises:
            ValueError: naming both shapes.
        """
        if tuple(shape) != self.shape:
            raise ValueError(
                f"the {what} has the shape {tuple(shape)}, expected that of the series, "
                f"{self.shape} (slices, rows, columns)."
            )


@dataclass(frozen=True)
class _File:
    file: DicomFile
    header: Header


def read_source(
    path: str | Path,
    series_uid: str | None = None,
    *,
    policy: Policy | None = None,
    key_file: str | Path | None = None,
) -> Source:
    """Read one series: single slices, or a file of many frames.

    Args:
        path: a folder or zip archive; files that are not DICOM are left out. A warning names files
            that cannot be read.
        series_uid: UID of the series, if there are several.
        policy: strict by default: no volume is better than a false one.
        key_file: the project's key of an index, so that messages name patients as the index does.

    Raises:
        MissingFileError: if there is no such folder, or no CT image in it.
        UsageError: for several series and no UID, an unknown UID, slices of several patients or
            studies, a series that is not a volume, or one without what a DICOM object must refer
            to.
    """
    if not Path(path).exists():
        raise MissingFileError(f"There is no {path}, expected a folder or zip archive with DICOM.")
    found = _by_series(path)
    if not found:
        raise MissingFileError(f"{path} holds no CT image, expected the slices of a CT series.")
    if series_uid is None and len(found) > 1:
        raise UsageError(
            f"{path} holds {len(found)} series: choose one by its UID, such as {min(found)}."
        )
    wanted = series_uid if series_uid is not None else next(iter(found))
    if wanted not in found:
        raise UsageError(f"{path} holds no series {wanted}, expected one of {sorted(found)}.")
    files = found[wanted]
    study = files[0].header.study
    of_study = [
        one for part in found.values() for one in part if study and one.header.study == study
    ]
    _check_patients(path, "SeriesInstanceUID", files, key_file)
    _check_patients(path, "StudyInstanceUID", of_study, key_file)
    studies = {one.header.study for one in files}
    if len(studies) > 1:
        raise UsageError(
            f"{path}: one SeriesInstanceUID holds slices of {len(studies)} studies: export each "
            "study's slices from a folder of their own."
        )
    base = tree_root(path)
    try:
        volume = read_volume(
            base, [one.file for one in files], [one.header for one in files], policy=policy
        )
    except (GeometryError, PixelError) as error:
        raise UsageError(str(error)) from error
    return _source(base, volume, files)


def _by_series(path: str | Path) -> dict[str, list[_File]]:
    found: dict[str, list[_File]] = {}
    with Opener(tree_root(path)) as opener:
        for file in walk_tree(path):
            header = read_header(opener, file) if isinstance(file, DicomFile) else file
            if isinstance(header, FileProblem):
                if header.kind in _UNREADABLE:
                    _log.warning("%s is left out: %s", header.file.name, header.reason)
            elif isinstance(file, DicomFile):
                found.setdefault(header.series, []).append(_File(file, header))
    # A slice of another modality is its series' fault: without it the volume would be shorter.
    return {s: files for s, files in found.items() if any(f.header.modality == "CT" for f in files)}


def _check_patients(
    path: str | Path, keyword: str, files: Sequence[_File], key_file: str | Path | None
) -> None:
    """Refuse one UID that several patients share: each has a series and a study of their own."""
    patients = {one.header.patient for one in files}
    if len(patients) < 2:
        return
    names = _pseudonyms(key_file)
    parts = []
    for patient in sorted(patients):
        own = [one.file.name for one in files if one.header.patient == patient]
        parts.append(f"{names.patient(patient) or 'unknown'} ({len(own)} files: {own[0]})")
    raise UsageError(
        f"{path}: one {keyword} holds slices of {len(patients)} patients, {', '.join(parts)}: "
        "export each patient's slices from a folder of their own."
    )


def _pseudonyms(key_file: str | Path | None) -> Pseudonyms:
    """Return the index's names, or names for one message only."""
    if key_file is None:
        return Pseudonyms(secrets.token_bytes(32))
    if not Path(key_file).is_file():
        raise MissingFileError(f"There is no {key_file}, expected the project.key of an index.")
    return Pseudonyms(load_key(key_file))


@dataclass(frozen=True)
class _Stated:
    """What a file states of patient and study: undecoded, and as text to compare."""

    raw: dict[str, Any]
    text: dict[str, str]
    thickness: float | None


def _source(base: Path, volume: DicomVolume, files: Sequence[_File]) -> Source:
    kept = set(volume.files)
    # In the order in which the volume numbers them.
    used = [one for one in files if one.file in kept]
    problem = export_problem([one.header for one in used])
    if problem:
        raise UsageError(
            f"{used[0].file.name}: {problem}: take the series from the archive again, or export "
            "each person's slices from a folder of their own."
        )
    stated = _stated(base, used)
    slices = [
        SliceReference(
            one.header.sop_class,
            one.header.instance,
            frame if (one.header.frames or 1) > 1 else None,
            place,
        )
        for one in used
        for frame, place in enumerate(one.header.places, start=1)
    ]
    return Source(
        volume,
        tuple(slices[index] for index in volume.verdict.stack.order),
        used[0].header.study,
        used[0].header.series,
        stated[0].text["FrameOfReferenceUID"],
        _thickness(used, stated) or float(np.linalg.norm(volume.affine[:3, 2])),
        stated[0].text["BodyPartExamined"] if _agreed(stated, "BodyPartExamined") else "",
        _elements(stated),
    )


def _stated(base: Path, files: Sequence[_File]) -> list[_Stated]:
    import pydicom

    found = []
    with quiet(), Opener(base) as opener:
        for one in files:
            with opener.open(one.file) as stream:
                dataset = pydicom.dcmread(
                    stream, force=True, stop_before_pixels=True, specific_tags=_TAGS
                )
            # The bytes first: reading a value decodes it.
            raw = {keyword: _raw(dataset, keyword) for keyword in _TAGS if keyword in dataset}
            text = {keyword: _text(dataset, keyword) for keyword in _TEXTS}
            found.append(_Stated(raw, text, _thickness_of_frames(dataset)))
    return found


def _raw(dataset: Any, keyword: str) -> Any:
    """Return an element undecoded, in the form of explicit VR."""
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    element = dataset.get_item(Tag(keyword))
    if not isinstance(element, RawDataElement):
        return element
    value = element.value or b""
    value += b" " * (len(value) % 2)
    return RawDataElement(
        element.tag, dictionary_VR(element.tag), len(value), value, 0, False, True
    )


def _text(dataset: Any, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # a malformed value can raise anything in pydicom: compare it undecoded
        value = dataset.get_item(keyword).value
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def _thickness_of_frames(dataset: Any) -> float | None:
    groups = dataset.get("SharedFunctionalGroupsSequence")
    measures = groups[0].get("PixelMeasuresSequence") if groups else None
    try:
        return float(measures[0].get("SliceThickness") or 0) if measures else None
    except (TypeError, ValueError):
        return None


def _thickness(files: Sequence[_File], stated: Sequence[_Stated]) -> float | None:
    """Return the value that all slices share, if it is above 0."""
    found = {
        one.header.thickness if own.thickness is None else own.thickness
        for one, own in zip(files, stated, strict=True)
    }
    thickness = found.pop() if len(found) == 1 else None
    return thickness if thickness is not None and 0 < thickness < np.inf else None


def _elements(stated: Sequence[_Stated]) -> Any:
    """Return the elements of patient and study that all slices share, byte for byte.

    Names are not decoded: an unknown character set, or one whose first value is empty, stays as it
    is.
    """
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    elements, first = Dataset(), stated[0]
    for keyword in (*MAY_BE_EMPTY, *_IF_THERE):
        if _agreed(stated, keyword) and keyword in first.raw:
            elements[Tag(keyword)] = first.raw[keyword]
        elif keyword in MAY_BE_EMPTY:
            setattr(elements, keyword, "")
    if _CHARACTER_SET in first.raw and not _is_ascii(elements):
        elements[Tag(_CHARACTER_SET)] = first.raw[_CHARACTER_SET]
    return elements


def _agreed(stated: Sequence[_Stated], keyword: str) -> bool:
    return len({one.text[keyword] for one in stated}) == 1


def _is_ascii(elements: Any) -> bool:
    """Say whether each text reads the same in every character set."""
    for tag in list(elements.keys()):
        value = elements.get_item(tag).value
        if isinstance(value, bytes) and not (value.isascii() and b"\x1b" not in value):
            return False
        if not isinstance(value, bytes) and not str(value).isascii():
            return False
    return True
