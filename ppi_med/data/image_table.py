"""Labelled images in the usual forms on disk: a table, or a folder for each class.

One reader for all: a CSV of image, label, patient and site; the tables of NIH ChestX-ray14,
CheXpert and ISIC as they are downloaded; folders such as Kermany's `train/NORMAL`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppi_med.data.splits import PARTS
from ppi_med.data.spreadsheet import alike, is_nothing, name_of, read_sheet
from ppi_med.errors import MissingFileError, UsageError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"),
    *(".dcm", ".dicom", ".nii", ".nii.gz", ".npy"),
)
"""Suffixes of image files."""

# In lower case; the first one in a table is used.
_IMAGE = ("image", "image index", "path", "file", "filename", "image_path", "image_name", "isic_id")
_LABEL = ("label", "class", "target", "finding labels", "benign_malignant", "diagnosis", "dx")
_PATIENT = ("patient", "patient_id", "patient id", "patientid", "subject", "subject_id", "group")
_SITE = ("site", "hospital", "centre", "center", "clinic", "attribution", "lab", "institution")
_PART = ("part", "split", "subset")
# Values that a device or a protocol writes. Findings in the image do not count: a reader's score is
# the label in another form.
_FACT = re.compile(
    r"view.?position|ap/pa|frontal/lateral|projection|manufacturer|maker|vendor|scanner|device|"
    r"machine|instrument|(device |scanner |camera )?model|(convolution.?)?kernel|protocol|stain|"
    r".*spacing.*|slice.?thickness.*|exposure.*|kvp|magnification|"
    r"(original|image|origin)[ _]?(image)?\W?(width|height|size)\W?|width|height\W?|contrast",
    re.IGNORECASE,
)
_FINDINGS, _NO_FINDING = "finding labels", "No Finding"
_PARTS = {
    "train": "training",
    "val": "validation",
    "valid": "validation",
    **{part: part for part in PARTS},
}
_PATIENT_OF_NAME = (
    re.compile(r"(person\d+_(?:bacteria|virus))_\d+"),  # Kermany, chest
    re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)?"),
    re.compile(r"(?:CNV|DME|DRUSEN|NORMAL)-(\d+)-\d+"),  # Kermany, OCT
)
_PATIENT_OF_PATH = re.compile(r"(?:^|[/\\])(patient\d+)[/\\]", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledImage:
    """An image of a table or folder.

    Attributes:
        image: its path.
        label: the table's value.
        patient: "" if unknown.
        site: "" if unknown.
        part: `training`, `validation`, `test`, or "" if not given.
        facts: further values that a device or a protocol writes, by column.
    """

    image: Path
    label: str
    patient: str = ""
    site: str = ""
    part: str = ""
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageTable:
    """The images of a source.

    Attributes:
        images: in the table's order.
        notes: sentences on omissions and assumptions.
    """

    images: tuple[LabelledImage, ...]
    notes: tuple[str, ...] = ()


def find_image_table(folder: str | Path) -> Path | None:
    """Return the one table of images in a folder: a CSV that has an image column and a label."""
    found = []
    for path in sorted(Path(folder).glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            header = next(csv.reader(stream), [])
        if _column(header, _IMAGE) is not None and len(header) > 1:
            found.append(path)
    training = [path for path in found if path.stem.lower().startswith("train")]
    if len(found) > 1 and len(training) != 1:
        raise UsageError(
            f"{folder} has {len(found)} tables of images ({', '.join(p.name for p in found)}): "
            "name the one to read."
        )
    return next(iter(training or found), None)


def read_image_table(path: str | Path, label: str = "") -> ImageTable:
    """Read a CSV of images.

    Args:
        path: path of the table. Images are relative to its folder; a bare name is searched below
            it.
        label: column of the label; for NIH's table the finding of class 1. Default:
            the first of the usual names, or columns of 0 and 1 with one 1 in each row.

    Raises:
        MissingFileError: if the table or all of its images are missing.
        UsageError: for a table without an image or label column, or an image that comes twice.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"No table {path}.")
    sheet = read_sheet(path, _IMAGE)
    header = [name for name in sheet.columns if name]
    rows = [dict(zip(sheet.columns, cells, strict=True)) for _, cells in sheet.rows]
    image = _column(header, _IMAGE)
    if image is None or not rows:
        raise UsageError(
            f"{path.name} has {len(rows)} rows and the columns {header}, expected rows with one of "
            f"{list(_IMAGE)}."
        )
    labels, notes, own = _labels(path, header, rows, label)
    labels = _one_form(path, labels)
    patient, site = _column(header, _PATIENT), _column(header, _SITE)
    part = _parts_column(path, header, rows)
    facts = [h for h in header if _FACT.fullmatch(h) and h not in (image, patient, site, part, own)]
    finder = _Finder(path.parent)
    found, missing, seen = [], [], set()
    for (line, _), row, text in zip(sheet.rows, rows, labels, strict=True):
        if not text or not row[image]:
            continue
        file = finder.find(row[image])
        if file is None:
            missing.append(row[image])
            continue
        if file in seen:
            raise UsageError(f"{path.name} lists {row[image]} twice, expected each image once.")
        seen.add(file)
        where = f"{path.name}, line {line}"
        whose = name_of(row[patient], where, patient) if patient else patient_of(row[image])
        named = _PARTS[row[part].lower()] if part and row[part] else ""
        place = name_of(row[site], where, site) if site else ""
        found.append(
            LabelledImage(file, text, whose, place, named, {k: row[k] for k in facts if row[k]})
        )
    if not found:
        raise MissingFileError(
            f"{path.name}: no image of its {len(rows)} rows with a label was found; the first, "
            f"{(missing or ['none'])[0]}, is not below {path.parent}."
        )
    unlabelled = sum(not text for text in labels)
    if unlabelled:
        notes.append(f"{unlabelled} rows without a label were left out.")
    if missing:
        notes.append(
            f"{len(missing)} images of the table are missing and were left out, "
            f"{missing[0]} the first."
        )
    whose_are = [image.patient for image in found]
    if patient and not all(whose_are) and any(whose_are):
        notes.append(
            f"{whose_are.count('')} images have no patient: each counts as one of its own."
        )
    return ImageTable(tuple(found), (*notes, *alike(whose_are)))


def class_folders(folder: str | Path) -> dict[str, Path]:
    """Return the parts of a tree of class folders: part (or "") to the folder that holds classes.

    `DIR/train/NORMAL/...`, `DIR/NORMAL/...`, or either one folder below `DIR`.
    """
    folder = Path(folder)
    below = [p for p in sorted(folder.iterdir()) if p.is_dir() and not _hidden(p.name)]
    parts = {_PARTS[p.name.lower()]: p for p in below if p.name.lower() in _PARTS and _classes(p)}
    if parts:
        return parts
    if len(_classes(folder)) > 1:
        return {"": folder}
    return class_folders(below[0]) if len(below) == 1 else {}


def read_class_folders(folder: str | Path) -> ImageTable:
    """Read images in a folder for each class; the patient is taken from names such as Kermany's.

    Raises:
        UsageError: if there are no such folders.
    """
    parts = class_folders(folder)
    if not parts:
        raise UsageError(f"{folder} holds no folder for each class, such as train/NORMAL.")
    images = [
        LabelledImage(path, place.name, patient_of(path.name), "", part)
        for part, root in parts.items()
        for place in _classes(root)
        for path in sorted(place.rglob("*"))
        if is_image(path.name)
    ]
    return ImageTable(tuple(images))


def patient_of(name: str) -> str:
    """Return the patient that a file name of a known data set names, else "".

    >>> patient_of("train/PNEUMONIA/person12_bacteria_47.jpeg"), patient_of("scan.png")
    ('person12_bacteria', '')
    """
    match = _PATIENT_OF_PATH.search(name)
    if match:
        return match[1]
    stem = re.split(r"[/\\]", name)[-1].partition(".")[0]
    found = (pattern.fullmatch(stem) for pattern in _PATIENT_OF_NAME)
    return next((match[1] for match in found if match), "")


def class_order(text: str) -> tuple[int, float, str]:
    """Sort key of class names: healthy first, numbers by value.

    Examples:
        >>> sorted(["pneumonia", "normal"], key=class_order)
        ['normal', 'pneumonia']
        >>> sorted(["10", "9", "0"], key=class_order)
        ['0', '9', '10']
    """
    healthy = text.lower().startswith(("normal", "no ", "benign", "healthy", "control", "negative"))
    try:
        return (0, float(text), text)
    except ValueError:
        return (0 if healthy else 1, 0.0, text)


def is_image(name: str) -> bool:
    """Whether a file name is one of an image that is not hidden."""
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _labels(
    path: Path, header: Sequence[str], rows: Sequence[dict[str, str]], label: str
) -> tuple[list[str], list[str], str | None]:
    """Return a text for each row ("" without label), notes, and the label's column."""
    findings = _column(header, (_FINDINGS,))
    own = _column(header, (label.lower(),)) if label else _column(header, _LABEL)
    if findings and (own is None or own == findings):
        named = [set(row[findings].split("|")) for row in rows]
        wanted = label if label and own is None else ""
        if wanted and not any(wanted in texts for texts in named):
            known = sorted(set().union(*named))
            raise UsageError(f"{path.name} has no finding {wanted!r}, expected one of {known}.")
        if wanted:
            return [wanted if wanted in t else f"no {wanted}" for t in named], [], findings
        return (
            [_NO_FINDING if _NO_FINDING in t else "finding" for t in named],
            [f"No finding was named: the classes are {_NO_FINDING!r} and any other."],
            findings,
        )
    if own is not None:
        texts = [row[own] for row in rows]
        return _uncertain(own, texts) if _column(header, ("frontal/lateral",)) else (texts, [], own)
    if label:
        raise UsageError(f"{path.name} has no column {label!r}, expected one of {list(header)}.")
    chexpert = _column(header, (_NO_FINDING.lower(),))
    if chexpert is not None:
        return _uncertain(chexpert, [row[chexpert] for row in rows])
    hot = _one_hot(header, rows)
    if hot:
        return [next(k for k in hot if _is_one(row[k])) for row in rows], [], None
    raise UsageError(
        f"{path.name} has no column of a usual name for the label ({', '.join(_LABEL)}): name it "
        f"with --label, one of {list(header)}."
    )


def _one_form(path: Path, labels: Sequence[str]) -> list[str]:
    """Return labels of which `1`, `1.0` and `True` are one, and what says nothing is ""."""
    said = ["" if is_nothing(text) else text for text in labels]
    bools = {"true": 1.0, "false": 0.0}
    numbers = [_number(text) if text.lower() not in bools else bools[text.lower()] for text in said]
    if all(number is not None for number, text in zip(numbers, said, strict=True) if text):
        return ["" if n is None else f"{int(n) if n.is_integer() else n}" for n in numbers]
    first: dict[str, str] = {}
    for text in filter(None, said):
        if first.setdefault(text.casefold(), text) != text:
            raise UsageError(
                f"{path.name} has the labels {first[text.casefold()]!r} and {text!r}: write one "
                "class in one way."
            )
    return said


def _parts_column(path: Path, header: Sequence[str], rows: Sequence[dict[str, str]]) -> str | None:
    """Return the column that says training, validation or test; None where there is none."""
    part = _column(header, _PART)
    said = {row[part] for row in rows if row[part]} if part else set()
    other = sorted(text for text in said if text.lower() not in _PARTS)
    if len(other) == len(said):
        return None
    if other:
        raise UsageError(
            f"{path.name}: {part} is {other[0]!r} in a row, expected one of {sorted(_PARTS)}."
        )
    return part


def _uncertain(own: str, texts: list[str]) -> tuple[list[str], list[str], str]:
    """CheXpert: empty is not mentioned, -1 uncertain."""
    values = [_number(text) for text in texts]
    labels = ["" if v == -1 else f"{own}" if v == 1 else f"no {own}" for v in values]
    note = f"{own}: not mentioned counts as absent, uncertain rows (-1) were left out."
    return labels, [note], own


def _one_hot(header: Sequence[str], rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the columns of 0 and 1 in which each row has one 1."""
    columns = [h for h in header if {_number(row[h]) for row in rows} <= {0.0, 1.0}]
    whole = all(sum(_is_one(row[h]) for h in columns) == 1 for row in rows)
    return columns if len(columns) > 1 and whole else []


def _is_one(text: str) -> bool:
    return _number(text) == 1


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _column(header: Iterable[str], names: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in header}
    return next((lower[name] for name in names if name in lower), None)


def _classes(folder: Path) -> list[Path]:
    return [
        place
        for place in sorted(folder.iterdir())
        if place.is_dir()
        and not _hidden(place.name)
        and place.name.lower() not in _PARTS
        and any(is_image(path.name) for path in place.rglob("*"))
    ]


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


class _Finder:
    """Finds an image by a table's entry: a path, a path with extra leading folders, or a name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, list[Path]] | None = None

    def find(self, text: str) -> Path | None:
        parts = re.split(r"[/\\]", text)
        for start in range(len(parts)):
            path = self.root.joinpath(*parts[start:]) if start else self.root / text
            if is_image(path.name) and path.is_file():
                return path
        found = self._index().get(parts[-1], [])
        if len(found) > 1:
            raise UsageError(
                f"{self.root} holds {len(found)} images {parts[-1]}: give paths in the table."
            )
        return found[0] if found else None

    def _index(self) -> dict[str, list[Path]]:
        """Return name, and name without suffix, to paths; the tree is walked once."""
        if self._names is None:
            self._names = {}
            for folder, _, names in os.walk(self.root):
                for name in filter(is_image, names):
                    for key in {name, name.partition(".")[0]}:
                        self._names.setdefault(key, []).append(Path(folder, name))
        return self._names
