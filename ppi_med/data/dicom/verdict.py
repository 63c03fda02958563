"""The verdict on a series: a volume, a volume with warnings, or refused with all reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ppi_med.data.dicom.geometry import Reason, Stack, Tolerances, examine_stack
from ppi_med.data.dicom.header import Header, Place
from ppi_med.data.dicom.pixels import syntax_problem

CODES = {
    "no_series": "no SeriesInstanceUID",
    "not_an_image": "a segmentation, a report, a plan",
    "pixels": "a file without pixels, or with only a part of them",
    "colour": "more than one sample per pixel",
    "no_values": "bits, slope or intercept that give no numbers, a lookup table",
    "not_hounsfield": "a CT whose values are not known to be Hounsfield units",
    "mixed_size": "rows or columns differ",
    "duplicate_instances": "a SOPInstanceUID comes more than once",
    "no_geometry": "position, orientation or pixel spacing is missing",
    "bad_orientation": "rows and columns are not at a right angle",
    "mixed_orientation": "slices are not parallel",
    "mixed_spacing": "pixel spacings differ",
    "single_slice": "one slice or frame",
    "shared_positions": "more than one slice at a position",
    "tilt": "slices are shifted across their normal",
    "gap": "slices are missing between others",
    "irregular": "steps differ",
}
"""Names of the reasons, for `Policy.allow`."""

FINAL = (
    *("not_an_image", "pixels", "colour", "no_values", "mixed_size"),
    *("no_geometry", "bad_orientation", "mixed_orientation"),
)
"""Reasons that cannot be allowed: such a series gives no array or no place."""

_NO_IMAGE = {
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.104.1": "a document",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "a set of contours",
    "1.2.840.10008.5.1.4.1.1.481.5": "a plan",
}
_REPORTS, _STATES = "1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11."


@dataclass(frozen=True)
class Policy:
    """The strictness of the verdict.

    Attributes:
        mode: "strict" refuses a series for any reason; "lenient" keeps it with a warning if all
            reasons are harmless: copies of one instance that agree in everything read, steps that
            differ by no more than a scanner's rounding.
        allow: names of reasons (see `CODES`, without `FINAL`) that are warnings in either mode;
            the user of the volume must then handle them.

    Raises:
        ValueError: for an unknown mode or reason, or one that cannot be allowed.
    """

    mode: Literal["strict", "lenient"] = "strict"
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in ("strict", "lenient"):
            raise ValueError(f"mode is {self.mode!r}, expected strict or lenient.")
        for name in self.allow:
            if name not in CODES or name in FINAL:
                known = [code for code in CODES if code not in FINAL]
                raise ValueError(f"allow names {name!r}, expected some of {known}.")

    def accepts(self, reason: Reason) -> bool:
        """Say whether a reason is only a warning."""
        return reason.code in self.allow or (self.mode == "lenient" and reason.harmless)


@dataclass
class Verdict:
    """The verdict on a series.

    Attributes:
        status: "volume" or "refused".
        reasons: all reasons against it, if refused.
        warnings: reasons that the policy accepted, and remarks.
        stack: order, steps, gaps, tilt.
        frames: number of slices, frames counted.
        duplicates: instances beyond the first of each UID.
    """

    status: Literal["volume", "refused"]
    reasons: list[Reason]
    warnings: list[str]
    stack: Stack
    frames: int
    duplicates: int = 0


@dataclass
class _Case:
    reasons: list[Reason] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    duplicates: int = 0

    def add(self, code: str, text: str, *, harmless: bool = False) -> None:
        self.reasons.append(Reason(code, text, harmless))


def judge(
    headers: Sequence[Header],
    policy: Policy | None = None,
    tolerances: Tolerances | None = None,
) -> Verdict:
    """Decide whether the files of one series are a volume.

    Args:
        headers: headers of its files.
        policy: strict by default.
        tolerances: in mm.

    Returns:
        The verdict with all reasons, not the first one only.

    Examples:
        >>> flat = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        >>> header = Header(series="1.2", instance="1.2.3", rows=4, columns=4, samples=1,
        ...                 places=(Place((0.0, 0.0, 0.0), flat, (1.0, 1.0)),))
        >>> verdict = judge([header])
        >>> verdict.status, verdict.reasons[0].text
        ('refused', 'a single slice is no volume')
    """
    policy = policy or Policy()
    case = _Case()
    kept = _without_copies(headers, case)
    places = [place for header in kept for place in header.places]
    names = [name for header in kept for name in _names(header)]
    _check_files(headers, case)
    silent = sum(not header.places for header in kept)
    stack = Stack()
    if not any(reason.code == "not_an_image" for reason in case.reasons):
        stack = _check_geometry(kept, places, names, silent, case, tolerances)
    frames = sum(header.frames or 1 for header in kept)
    refused = [reason for reason in case.reasons if not policy.accepts(reason)]
    accepted = [reason.text for reason in case.reasons if policy.accepts(reason)]
    warnings = [*accepted, *_remarks(kept, stack), *case.warnings]
    unfit = export_problem(kept) if not refused else ""
    if unfit:
        warnings.append(f"nothing that refers to it can be exported: {unfit}.")
    if refused:
        return Verdict("refused", refused, warnings, stack, frames, case.duplicates)
    return Verdict("volume", [], warnings, stack, frames, case.duplicates)


def export_problem(headers: Sequence[Header]) -> str:
    """Return why nothing can be exported that refers to a series' slices, or "".

    Args:
        headers: headers of its files; whether they are a volume is not looked at.
    """
    if any(header.modality != "CT" for header in headers):
        return "its modality is not CT"
    lacking = [
        keyword
        for keyword, name in (
            ("StudyInstanceUID", "study"),
            ("SOPInstanceUID", "instance"),
            ("SOPClassUID", "sop_class"),
            ("FrameOfReferenceUID", "frame_of_reference"),
        )
        if not all(getattr(header, name) for header in headers)
    ]
    if lacking:
        return f"its series lacks {', '.join(lacking)}"
    for name, what in (
        ("patient", "PatientID"),
        ("study", "StudyInstanceUID"),
        ("person", "PatientName, PatientBirthDate or PatientSex"),
        ("frame_of_reference", "FrameOfReferenceUID"),
    ):
        if len({getattr(header, name) for header in headers} - {""}) > 1:
            return f"slices of its series differ in {what}"
    return ""


def _without_copies(headers: Sequence[Header], case: _Case) -> list[Header]:
    """Return one header an instance; say how often the others come."""
    first: dict[str, Header] = {}
    copies: Counter[str] = Counter()
    alike = True
    kept = []
    for header in headers:
        if not header.instance:
            kept.append(header)
        elif header.instance in first:
            copies[header.instance] += 1
            alike &= _same_image(header, first[header.instance])
        else:
            first[header.instance] = header
            kept.append(header)
    case.duplicates = copies.total()
    if copies:
        most = max(copies.values()) + 1
        text = f"{len(copies)} SOPInstanceUIDs come up to {most} times"
        case.add("duplicate_instances", text, harmless=alike)
    return kept


def _same_image(one: Header, other: Header) -> bool:
    """Tell whether two files of one instance agree in all but the way of storing them."""
    names = ["rows", "columns", "samples", "frames", "places", "slope", "intercept"]
    names += ["value_problem", "unit_problem"]
    sound = not (one.pixel_problem or other.pixel_problem)
    return sound and all(getattr(one, name) == getattr(other, name) for name in names)


def _names(header: Header) -> list[str]:
    if len(header.places) == 1:
        return [f"instance {'?' if header.number is None else header.number}"]
    return [f"frame {number}" for number in range(1, len(header.places) + 1)]


def _check_files(headers: Sequence[Header], case: _Case) -> None:
    if not all(header.series for header in headers):
        case.add("no_series", "no SeriesInstanceUID")
    kinds = {kind for header in headers if (kind := _no_image(header.sop_class))}
    if kinds:
        case.add("not_an_image", f"{' and '.join(sorted(kinds))}, not an image")
    if kinds:
        return
    for code, texts in (
        ("pixels", [syntax_problem(h.transfer_syntax) or h.pixel_problem for h in headers]),
        ("no_values", [h.value_problem for h in headers]),
        ("not_hounsfield", ["" if h.value_problem else h.unit_problem for h in headers]),
    ):
        for problem, number in sorted(Counter(texts).items()):
            if problem:
                case.add(code, problem if number == 1 else f"{problem} ({number} files)")
    if len({header.modality for header in headers}) > 1:
        case.add("not_hounsfield", "slices of several modalities in one series")


def _no_image(sop_class: str) -> str:
    if sop_class.startswith(_REPORTS):
        return "a report"
    return "a presentation state" if sop_class.startswith(_STATES) else _NO_IMAGE.get(sop_class, "")


def _check_geometry(
    headers: Sequence[Header],
    places: Sequence[Place],
    names: Sequence[str],
    silent: int,
    case: _Case,
    tolerances: Tolerances | None,
) -> Stack:
    samples = max((header.samples or 1 for header in headers), default=1)
    if samples > 1:
        case.add("colour", f"colour: {samples} samples a pixel")
    sizes = {(header.rows, header.columns) for header in headers if header.rows}
    if len(sizes) > 1:
        case.add("mixed_size", f"{len(sizes)} sizes of slices in one series")
    wrong = [header for header in headers if len(header.places) not in (0, header.frames or 1)]
    if wrong:
        text = f"{wrong[0].frames or 1} frames, functional groups of {len(wrong[0].places)}"
        case.add("no_geometry", text)
    if silent:
        text = (
            "enhanced multi-frame without functional groups: no positions, orientation or pixel "
            "spacing"
        )
        case.add("no_geometry", text)
    if not places:
        return Stack()
    stack = examine_stack(places, names, tolerances)
    if len(places) == 1 and not silent:
        frame = "frame" if headers[0].frames else "slice"
        case.add("single_slice", f"a single {frame} is no volume")
    case.reasons.extend(stack.reasons)
    return stack


def _remarks(headers: Sequence[Header], stack: Stack) -> list[str]:
    """Say what is odd and still no reason against a volume."""
    remarks = sorted({warning for header in headers for warning in header.warnings})
    tilts = {header.tilt for header in headers if header.tilt}
    if tilts and stack.tilt_deg is not None:
        apart = min(abs(abs(tilt) - stack.tilt_deg) for tilt in tilts)
        if apart > 0.5:
            remarks.append(
                f"GantryDetectorTilt says {sorted(tilts)[0]:g} deg, the positions "
                f"{stack.tilt_deg:.1f} deg."
            )
    scales = {(header.slope, header.intercept) for header in headers}
    if len(scales) > 1:
        remarks.append(f"rescale slope and intercept differ: {len(scales)} pairs, each kept.")
    return remarks
