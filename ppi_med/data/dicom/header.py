"""A file's header, and whether its pixels are complete; no pixel is decoded."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any, BinaryIO

from ppi_med.data.dicom.pixels import (
    NO_PIXELS,
    InflatedSizeError,
    check_inflated_size,
    pixel_problem,
    quiet,
)
from ppi_med.data.dicom.tree import HEAD_BYTES, ArchiveError, DicomFile, FileProblem, Opener
from ppi_med.data.dicom.values import (
    INTERCEPT,
    SLOPE,
    TAGS,
    rescale_holders,
    unit_problem,
    value_problem,
)

READER_VERSION = 4
"""Version; it rises when the same file would give another header."""

_TEXT = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instance": "SOPInstanceUID",
    "sop_class": "SOPClassUID",
    "modality": "Modality",
    "photometric": "PhotometricInterpretation",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "kernel": "ConvolutionKernel",
    "frame_of_reference": "FrameOfReferenceUID",
}
# Elements in which two slices of one person cannot differ.
_PERSON = ("PatientName", "PatientBirthDate", "PatientSex")
_WHOLE = {
    "number": "InstanceNumber",
    "rows": "Rows",
    "columns": "Columns",
    "samples": "SamplesPerPixel",
    "frames": "NumberOfFrames",
}
_REAL = {
    "thickness": "SliceThickness",
    "between": "SpacingBetweenSlices",
    "tilt": "GantryDetectorTilt",
}
_RESCALE = {"slope": SLOPE, "intercept": INTERCEPT}
_VECTORS = {
    "position": ("ImagePositionPatient", 3),
    "orientation": ("ImageOrientationPatient", 6),
    "spacing": ("PixelSpacing", 2),
}
_TAGS = [
    *_TEXT.values(),
    *_WHOLE.values(),
    *_REAL.values(),
    *(name for name, _ in _VECTORS.values()),
    *_PERSON,
    *TAGS,
    "ContrastBolusAgent",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Place:
    """The place of a slice, in mm in the patient's coordinates; `None` if not stated.

    Attributes:
        position: position of the first pixel's centre.
        orientation: direction of the rows, then of the columns.
        spacing: between rows, between columns.
    """

    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Header:
    """The index's facts about one file.

    Missing text is "", a missing number `None`. `contrast` is `None` without the contrast tag.
    `places` has one entry per frame; it is empty if a file of many frames states no place. `slope`
    and `intercept` are also `None` if the frames of a file differ in them. `person` is a hash of
    name, birth date and sex, "" without any of them. `pixel_problem` says why the pixels cannot be
    read, as far as the file shows without decoding; `value_problem` and `unit_problem` why they are
    not numbers, or not Hounsfield units.
    """

    patient: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    sop_class: str = ""
    modality: str = ""
    photometric: str = ""
    manufacturer: str = ""
    model: str = ""
    kernel: str = ""
    frame_of_reference: str = ""
    person: str = ""
    transfer_syntax: str = ""
    contrast: str | None = None
    number: int | None = None
    rows: int | None = None
    columns: int | None = None
    samples: int | None = None
    frames: int | None = None
    thickness: float | None = None
    between: float | None = None
    tilt: float | None = None
    slope: float | None = None
    intercept: float | None = None
    places: tuple[Place, ...] = ()
    pixel_problem: str = ""
    value_problem: str = ""
    unit_problem: str = ""
    warnings: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """Return it as plain values for JSON, without missing ones."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", ())}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Header:
        """Build it from the result of `body`."""
        places = tuple(
            Place(**{name: None if v is None else tuple(v) for name, v in place.items()})
            for place in body.get("places", ())
        )
        return cls(**body | {"places": places, "warnings": tuple(body.get("warnings", ()))})


@dataclass
class _Notes:
    """Sentences on odd elements; they name the element and never its content."""

    lines: list[str] = field(default_factory=list)

    def odd(self, keyword: str, expected: str) -> None:
        self.lines.append(f"{keyword} cannot be read, expected {expected}: taken as unknown.")

    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.lines))


def read_header(opener: Opener, file: DicomFile) -> Header | FileProblem:
    """Read the header of a file; faults are returned, never raised.

    Returns:
        The header, or the problem of a file that is empty, not DICOM, damaged or cannot be opened.
    """
    if file.size == 0:
        return FileProblem(file, "empty", "the file is empty.")
    try:
        with opener.open(file, looks_like_dicom) as stream, quiet():
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            if not looks_like_dicom(head):
                return FileProblem(file, "not_dicom", "not a DICOM file: skipped.")
            check_inflated_size(stream)
            return _read(stream, opener, file)
    except OSError as error:
        reason = f"{type(error).__name__}: {error.strerror or 'cannot be read'}."
        return FileProblem(file, "unreadable", reason)
    except ArchiveError as error:
        return FileProblem(file, "archive", str(error))
    except InflatedSizeError as error:
        return FileProblem(file, "unreadable", f"{error}.")
    except MemoryError:
        return FileProblem(file, "unreadable", "not enough memory to read it.")
    except Exception as error:  # a damaged file can raise anything in the parser
        reason = f"the header is damaged ({type(error).__name__})."
        return FileProblem(file, "damaged", reason)


def looks_like_dicom(head: bytes) -> bool:
    """Say whether it is DICOM: a preamble, or a first element of group 2 or 8, any byte order.

    Args:
        head: the first 132 bytes.
    """
    if head[128:132] == b"DICM":
        return True
    group, element = head[:2], head[2:4]
    groups = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
    return len(head) >= 12 and group in groups and b"\0" in element


def _read(stream: BinaryIO, opener: Opener, file: DicomFile) -> Header | FileProblem:
    import pydicom

    dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    meta = getattr(dataset, "file_meta", {})
    syntax = str(meta.get("TransferSyntaxUID", ""))
    notes = _Notes()
    header = _header(dataset, syntax, notes)
    if str(meta.get("MediaStorageSOPClassUID", header.sop_class)) == _MEDIA_DIRECTORY:
        return FileProblem(file, "dicomdir", _directory(stream, opener, file))
    if not (header.sop_class or header.rows) and meta.get("MediaStorageSOPClassUID"):
        return FileProblem(file, "damaged", "the header says what it is and holds no image.")
    if not (header.sop_class or header.rows):
        return FileProblem(file, "not_dicom", "no SOP class and no rows: no DICOM object.")
    if not header.rows:
        return replace(header, pixel_problem=NO_PIXELS, warnings=notes.all())
    return replace(
        header,
        pixel_problem=pixel_problem(stream, dataset, syntax, file.size),
        value_problem=value_problem(dataset),
        unit_problem=unit_problem(dataset),
        warnings=notes.all(),
    )


def _directory(stream: BinaryIO, opener: Opener, file: DicomFile) -> str:
    """Count the files that a DICOMDIR names, and the missing ones."""
    import pydicom

    stream.seek(0)
    records = pydicom.dcmread(stream).get("DirectoryRecordSequence") or []
    folder = (opener.base / file.path).parent
    names = [record.ReferencedFileID for record in records if "ReferencedFileID" in record]
    parts = [[name] if isinstance(name, str) else list(name) for name in names]
    lost = sum(not folder.joinpath(*(str(part) for part in name)).exists() for name in parts)
    if file.entry or not lost:
        return f"a directory (DICOMDIR) that names {len(parts)} files, no image."
    return f"a directory (DICOMDIR) that names {len(parts)} files, {lost} of which are not here."


def _header(dataset: Any, syntax: str, notes: _Notes) -> Header:
    values: dict[str, Any] = {key: _text(dataset, word) for key, word in _TEXT.items()}
    for key, word in _WHOLE.items():
        number = _numbers(dataset, word, 1, notes)
        values[key] = None if number is None else int(number[0])
    for key, word in _REAL.items():
        number = _numbers(dataset, word, 1, notes)
        values[key] = None if number is None else number[0]
    values |= _rescale(dataset, notes)
    contrast = _text(dataset, "ContrastBolusAgent") if "ContrastBolusAgent" in dataset else None
    places = _places(dataset, values["frames"], notes)
    person = "\0".join(_text(dataset, word) for word in _PERSON)
    if person.strip("\0"):
        values["person"] = hashlib.sha256(person.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Header(**values, transfer_syntax=syntax, contrast=contrast, places=places)


def _rescale(dataset: Any, notes: _Notes) -> dict[str, float | None]:
    """Return slope and intercept; if they differ between frames, None and a note."""
    found: dict[str, float | None] = {}
    for key, word in _RESCALE.items():
        numbers = [_numbers(item, word, 1, notes) for item in rescale_holders(dataset, word)]
        same = len(set(numbers)) == 1
        found[key] = numbers[0][0] if same and numbers[0] is not None else None
        if not same:
            notes.lines.append(f"{word} differs between the frames: each keeps its own.")
    return found


def _places(dataset: Any, frames: int | None, notes: _Notes) -> tuple[Place, ...]:
    """Return the place of each frame, from the functional groups if there are any."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    if per_frame or shared:
        common = _group_place(shared[0], notes) if shared else Place()
        return tuple(_merged(_group_place(item, notes), common) for item in per_frame)
    if (frames or 1) > 1:
        return ()
    return (Place(**{key: _numbers(dataset, w, n, notes) for key, (w, n) in _VECTORS.items()}),)


def _group_place(item: Any, notes: _Notes) -> Place:
    sources = {
        "position": "PlanePositionSequence",
        "orientation": "PlaneOrientationSequence",
        "spacing": "PixelMeasuresSequence",
    }
    values: dict[str, Any] = {}
    for key, sequence in sources.items():
        inner = item.get(sequence) or []
        word, count = _VECTORS[key]
        values[key] = _numbers(inner[0], word, count, notes) if inner else None
    return Place(**values)


def _merged(own: Place, common: Place) -> Place:
    return Place(
        own.position or common.position,
        own.orientation or common.orientation,
        own.spacing or common.spacing,
    )


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None or isinstance(value, bytes):
        return ""
    parts = [str(value)] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return " ".join(" ".join(str(part) for part in parts).replace("\0", " ").split())[:128]


def _numbers(dataset: Any, keyword: str, count: int, notes: _Notes) -> tuple[float, ...] | None:
    """Return finite numbers, or `None`: a malformed value is unknown, with a note."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        parts = (
            list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
        )
        numbers = tuple(float(part) for part in parts)
    except (ValueError, TypeError, OverflowError):
        numbers = ()
    if len(numbers) != count or not all(abs(number) < 1e12 for number in numbers):
        notes.odd(keyword, "a number" if count == 1 else f"{count} numbers")
        return None
    return numbers


__all__ = ["READER_VERSION", "Header", "Place", "read_header"]
