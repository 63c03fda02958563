"""Heidelberg's XML export: one XML, one picture per B-scan.

Some exports name each picture's file (`ExamURL`, often a Windows path), others only number them;
then the pictures are found by their numbers in the folder of the XML and those directly below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import IMAGE_SUFFIXES, Source
from ppi_med.data.oct.stack import read_pictures
from ppi_med.data.oct.volume import (
    NotOctError,
    OctReadError,
    OctVolume,
    Spacing,
    between_bscans,
    normal_laterality,
)

NAME = "heidelberg-xml"
_MAX_XML = 256 * 2**20
_ENDINGS = {"tif": (".tif", ".tiff"), "tiff": (".tif", ".tiff"), "jpg": (".jpg", ".jpeg")}
_SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Bscan:
    """The XML's facts about one B-scan."""

    number: int
    width: int
    depth: int
    scale_x: float | None
    scale_y: float | None
    start: tuple[float, float] | None
    end: tuple[float, float] | None
    eye: str
    url: str
    ending: str


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read the volume that a Heidelberg XML describes, its pictures beside or below it."""
    path = source.path
    root = _parse(path)
    series = [node for node in root.iter("Series") if node.find("Image") is not None]
    if not series:
        raise NotOctError(path, "no Series with pictures in it: not a Heidelberg OCT export.")
    volumes, refused = [], []
    for number, node in enumerate(series, start=1):
        try:
            volumes.append(_read_series(path, root, node, options))
        except OctReadError as error:
            if len(series) == 1:
                raise
            refused.append(f"series {number} of {len(series)} left out: {error.reason}")
    if not volumes:
        raise OctReadError(path, " ".join(refused))
    volumes[0].warnings += refused
    _mention_unused(source, volumes)
    return volumes


def _mention_unused(source: Source, volumes: list[OctVolume]) -> None:
    """Name the pictures of an export that belong to none of its B-scans."""
    used = {path for volume in volumes for path in volume.meta["paths"]}
    unused = [path for path in source.files[1:] if path not in used]
    if unused:
        first = unused[0].relative_to(source.path.parent).as_posix()
        volumes[0].warnings.append(
            f"{len(unused)} pictures beside or below it are not among its B-scans, first {first}: "
            "skipped."
        )


def _parse(path: Path) -> Any:
    """Parse untrusted XML: no entities, no external files, bounded size."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    if path.stat().st_size > _MAX_XML:
        raise OctReadError(path, f"more than {_MAX_XML // 2**20} MiB of XML, not an export.")
    text = path.read_bytes()
    try:
        return fromstring(text)
    except DefusedXmlException as error:
        raise OctReadError(path, f"refused: the XML uses {type(error).__name__}.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise OctReadError(path, f"not well-formed XML ({error}).") from error


def _read_series(path: Path, root: Any, node: Any, options: ReadOptions) -> OctVolume:
    kind = (node.findtext("Type") or "").strip()
    if kind and kind.casefold() not in ("volume", "line", "single", "section", "lines"):
        raise OctReadError(path, f"scan type {kind!r}, expected parallel B-scans (Volume).")
    bscans = _bscans(path, node)
    files = _files(path, bscans)
    picture = read_pictures(path, files, colour=options.colour)
    wanted = (len(bscans), bscans[0].depth, bscans[0].width)
    if picture.shape != wanted:
        raise OctReadError(
            path,
            f"the pictures give {picture.shape} pixels, expected {wanted} (B-scans, depth, width) "
            "as the XML tells.",
        )
    volume = OctVolume(picture.pixels, reader=NAME, source=path, warnings=picture.warnings)
    volume.provenance |= picture.provenance
    volume.meta = {"scan_type": kind, "files": [file.name for file in files], "paths": files}
    patient = root.find(".//Patient")
    if patient is not None:
        key = (patient.findtext("PatientID") or patient.findtext("ID") or "").strip()
        volume.subject_key = key or None
    _add_laterality(volume, node, bscans)
    _add_spacing(volume, bscans)
    return volume


def _bscans(path: Path, node: Any) -> list[_Bscan]:
    """Return the B-scans in the order of their numbers; the fundus picture is left out."""
    found: dict[int, _Bscan] = {}
    for image in node.findall("Image"):
        kind = (image.findtext("ImageType/Type") or "").strip()
        context = image.find("OphthalmicAcquisitionContext")
        if context is None or (kind and kind != "OCT"):
            continue
        start, end = _point(context, "Start"), _point(context, "End")
        if not kind and start is None:
            continue  # without a type only B-scans have a start
        number = _integer(path, image, "ImageNumber")
        if number in found:
            raise OctReadError(path, f"ImageNumber {number} comes twice.")
        found[number] = _Bscan(
            number=number,
            width=_integer(path, context, "Width"),
            depth=_integer(path, context, "Height"),
            scale_x=_float(context.findtext("ScaleX")),
            scale_y=_float(context.findtext("ScaleY")),
            start=start,
            end=end,
            eye=(image.findtext("Laterality") or "").strip(),
            url=(image.findtext("ImageData/ExamURL") or "").strip(),
            ending=(image.findtext("ImageData/Extension") or "").strip().lstrip(".").lower(),
        )
    if not found:
        raise NotOctError(path, "no B-scan among its pictures.")
    bscans = [found[number] for number in sorted(found)]
    for bscan in bscans:
        if (bscan.width, bscan.depth) != (bscans[0].width, bscans[0].depth):
            raise OctReadError(
                path,
                f"B-scan {bscan.number} has {bscan.depth} x {bscan.width} pixels, expected "
                f"{bscans[0].depth} x {bscans[0].width} as B-scan {bscans[0].number}.",
            )
    return bscans


def _files(path: Path, bscans: list[_Bscan]) -> list[Path]:
    if all(bscan.url for bscan in bscans):
        return [_named_file(path, bscan) for bscan in bscans]
    return _numbered_files(path, bscans)


def _named_file(path: Path, bscan: _Bscan) -> Path:
    """Return the picture that ExamURL names: only its last part, searched beside the XML."""
    name = re.split(r"[\\/]", bscan.url)[-1]
    if name in ("", ".", "..") or Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise OctReadError(path, f"B-scan {bscan.number}: ExamURL {bscan.url!r} names no picture.")
    for candidate in (path.parent / name, *sorted(path.parent.glob(f"*/{_literal(name)}"))):
        if candidate.is_file():
            return candidate
    raise OctReadError(path, f"B-scan {bscan.number}: the picture {name} is missing.")


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _numbered_files(path: Path, bscans: list[_Bscan]) -> list[Path]:
    """Find the one family of pictures whose names differ only in the number and fit the XML."""
    endings = set()
    for bscan in bscans:
        endings |= set(_ENDINGS.get(bscan.ending, (f".{bscan.ending}",) if bscan.ending else ()))
    families: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for file in (*path.parent.iterdir(), *path.parent.glob("*/*")):
        suffix = file.suffix.lower()
        if suffix not in (endings or IMAGE_SUFFIXES) or not file.is_file():
            continue
        for match in re.finditer(r"\d+", file.stem):
            family = f"{file.stem[: match.start()]}#{file.stem[match.end() :]}{suffix}"
            families[file.parent, family][int(match[0])] = file
    wanted = [bscan.number for bscan in bscans]
    fitting = {key: files for key, files in families.items() if set(wanted) <= set(files)}
    if len(fitting) == 1:
        (files,) = fitting.values()
        return [files[number] for number in wanted]
    if fitting:
        names = sorted(str(folder.relative_to(path.parent) / name) for folder, name in fitting)
        raise OctReadError(
            path, f"several families of pictures have its numbers: {names}; leave only one."
        )
    closest = max(families.values(), key=lambda files: len(set(wanted) & set(files)), default={})
    missing = [number for number in wanted if number not in closest]
    raise OctReadError(
        path,
        f"{len(missing)} of {len(wanted)} B-scan pictures are missing, first number {missing[0]}: "
        "the XML names no files, so names with these numbers were looked for beside and below it.",
    )


def _add_laterality(volume: OctVolume, node: Any, bscans: list[_Bscan]) -> None:
    texts = [(node.findtext("Laterality") or "").strip(), *(bscan.eye for bscan in bscans)]
    eyes = {normal_laterality(text) for text in texts} - {None}
    if len(eyes) > 1:
        volume.warnings.append("the XML names both eyes: the eye stays unknown.")
    elif eyes:
        volume.laterality = eyes.pop()


def _add_spacing(volume: OctVolume, bscans: list[_Bscan]) -> None:
    lateral = _same(volume, [bscan.scale_x for bscan in bscans], "ScaleX")
    axial = _same(volume, [bscan.scale_y for bscan in bscans], "ScaleY")
    starts = [bscan.start for bscan in bscans if bscan.start is not None]
    ends = [bscan.end for bscan in bscans if bscan.end is not None]
    between = None
    if len(starts) == len(ends) == len(bscans):
        between, reason = between_bscans(starts, ends)
        if reason:
            volume.warnings.append(reason)
    volume.spacing = Spacing(lateral, axial, between)


def _same(volume: OctVolume, values: list[float | None], name: str) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if max(known) - min(known) > _SCALE_TOLERANCE:
        volume.warnings.append(f"{name} runs from {min(known)} to {max(known)} mm: left unknown.")
        return None
    return known[0]


def _point(context: Any, name: str) -> tuple[float, float] | None:
    x = _float(context.findtext(f"{name}/Coord/X"))
    y = _float(context.findtext(f"{name}/Coord/Y"))
    return None if x is None or y is None else (x, y)


def _float(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _integer(path: Path, node: Any, name: str) -> int:
    text = (node.findtext(name) or "").strip()
    if not text.isdigit():
        raise OctReadError(path, f"{name} is {text!r}, expected a number.")
    return int(text)
