"""The cases of an audit, with label, patient, site and header values, from any form of data set."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.data.datalist import patient_of
from ppi_med.data.image_table import (
    ImageTable,
    class_folders,
    class_order,
    find_image_table,
    read_class_folders,
    read_image_table,
)
from ppi_med.data.lidc.zarr_store import is_url
from ppi_med.data.spreadsheet import read_sheet
from ppi_med.errors import MissingFileError, UsageError

LEAST_IMAGES, LEAST_PATIENTS = 40, 10
"""Least numbers of cases, and of patients per class."""
GIVEN = "given with the data"
"""Source of the validation part, if it is not drawn."""
MAX_CASES = 20_000
_MAX_CLASSES = 200
_VALIDATION_PATIENTS = 10
# Manifest values that a device or the conversion wrote.
_MANIFEST_FACTS = (
    *("n_slices", "rows_px", "columns_px", "depth_px", "width_px"),
    *("spacing_columns_mm", "spacing_rows_mm", "spacing_slices_mm"),
    *("spacing_lateral_mm", "spacing_axial_mm", "spacing_between_mm"),
    *("reader", "model", "kernel", "contrast", "slice_thickness_mm"),
)
_NODULE_FACTS = {
    "pixel_spacing_mm": "spacing_mm",
    "slice_thickness_mm": "slice_thickness_mm",
    "convolution_kernel": "kernel",
    "contrast": "contrast",
    "model": "model",
}


@dataclass(frozen=True)
class Case:
    """An image or a volume.

    Attributes:
        name: shown on the page.
        image: path, or path and member behind `::`, or a folder of patches.
        label: class, from 0.
        patient: the patient; splits keep a patient's cases together.
        site: "" if unknown.
        part: `training`, `validation`, `test`, or "".
        facts: header and manifest values.
        group: group of a patch in Zarr.
        row: row of a patch.
    """

    name: str
    image: str
    label: int
    patient: str
    site: str = ""
    part: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set to audit.

    Attributes:
        name: name of its folder or file.
        form: its recognised form.
        cases: cases of training and validation; a test part is left alone.
        classes: their names.
        notes: sentences for the page.
        patients_known: whether the data name patients.
        tested: cases of the test part, which is not read.
    """

    name: str
    form: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    patients_known: bool = True
    tested: tuple[Case, ...] = ()

    @property
    def label(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Class of each case."""
        return np.array([case.label for case in self.cases], np.int64)

    @property
    def patient(self) -> list[str]:
        """Patient of each case."""
        return [case.patient for case in self.cases]


def read_source(dataset: str | Path, label: str = "") -> Source:
    """Read a data set in any known form.

    Args:
        dataset: a folder with `datalist.json`, `nodules.csv`, a CSV of images, folders of
            classes or photographs in a known layout; a MONAI datalist; or a CSV of images.
        label: column of a CSV with the label.

    Raises:
        MissingFileError: if it does not exist.
        UsageError: if its form is unknown, or it has one class or too few images.
    """
    path = Path(dataset)
    if not path.exists():
        raise MissingFileError(f"There is no {path}: name a folder, a datalist or a CSV.")
    if path.is_file():
        if path.suffix.lower() == ".json":
            return _checked(_from_datalist(path))
        if path.suffix.lower() == ".csv":
            return _checked(_from_table(path, read_image_table(path, label), "CSV"))
        raise UsageError(f"{path.name} is neither a datalist (.json) nor a table (.csv).")
    if (path / "datalist.json").is_file():
        return _checked(_from_datalist(path / "datalist.json"))
    if (path / "nodules.csv").is_file():
        return _checked(_from_nodules(path))
    table = None if (path / "labels.csv").is_file() else find_image_table(path)
    if table is not None:
        return _checked(_from_table(path, read_image_table(table, label), f"CSV {table.name}"))
    if _layout(path) in (None, "folders", "classes") and class_folders(path):
        return _checked(_from_table(path, read_class_folders(path), "folders of classes"))
    return _checked(_from_photos(path))


def _layout(path: Path) -> str | None:
    from ppi_med.data.photos.layouts import find_layout

    try:
        return find_layout(path)
    except UsageError:
        return None


def _from_table(path: Path, table: ImageTable, form: str) -> Source:
    texts = sorted({image.label for image in table.images}, key=class_order)
    number = {text: index for index, text in enumerate(texts)}
    base = path if path.is_dir() else path.parent
    cases = [
        Case(
            name=_below(image.image, base),
            image=str(image.image),
            label=number[image.label],
            patient=image.patient,
            site=image.site,
            part=image.part,
            facts=image.facts,
        )
        for image in table.images
    ]
    return _made(path.name, form, cases, texts, table.notes)


def _from_photos(path: Path) -> Source:
    from ppi_med.data.photos.layouts import read_photos

    photos = read_photos(path)
    names = {photo.label: photo.class_name or str(photo.label) for photo in photos}
    texts = [names.get(index, str(index)) for index in range(max(names) + 1)]
    cases = [Case(p.name, p.image, p.label, p.patient, p.site, p.part) for p in photos]
    if not any(case.part == "training" for case in cases):
        cases = [replace(case, part="") for case in cases]
    return _made(path.name, "photographs", cases, texts, ())


def _from_nodules(path: Path) -> Source:
    from ppi_med.data.lidc.cases import load_cases

    sheet = read_sheet(path / "nodules.csv", {"id"})
    table = [dict(zip(sheet.columns, cells, strict=True)) for _, cells in sheet.rows]
    cases = []
    for item in load_cases(path, "all"):
        row = table[item["row"]]
        facts = {name: row[key] for key, name in _NODULE_FACTS.items() if row.get(key)}
        name = str(item["volume_id"])
        cases.append(
            Case(
                *(name, str(path), int(item["label"]), str(item["subject"])),
                site=str(item["site"]),
                facts=facts,
                row=item["row"],
            )
        )
    return _made(path.name, "nodules", cases, ["0", "1"], ())


def _from_datalist(path: Path) -> Source:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UsageError(f"{path.name}: not JSON ({error}).") from error
    parts = {"training": content} if isinstance(content, list) else content
    if not isinstance(parts, dict) or not any(map(_is_list_of_items, parts.values())):
        raise UsageError(f"{path.name} is no datalist: expected lists such as 'training'.")
    facts = _manifest_facts(path.parent)
    cases, texts, unlabelled = [], set(), 0
    for part, items in parts.items():
        if part == "unassigned" or not _is_list_of_items(items):
            continue
        for number, item in enumerate(items):
            if not isinstance(item, dict) or "label" not in item:
                unlabelled += 1
                continue
            cases.append(_item(path, part, number, item, facts))
            texts.add(_class_text(path, item["label"]))
    ordered = sorted(texts, key=class_order)
    number_of = {text: index for index, text in enumerate(ordered)}
    done = [replace(case, label=number_of[text]) for case, text in cases]
    names = {_class_text(path, i["label"]): str(i["class_name"]) for i in _labelled(parts)}
    notes = [f"{unlabelled} items without a label were left out."] if unlabelled else []
    return _made(path.parent.name, "datalist", done, [names.get(t, t) for t in ordered], notes)


def _is_list_of_items(value: Any) -> bool:
    """Tell a part's items from other lists of a datalist, such as an image size."""
    return isinstance(value, list) and (not value or any(isinstance(item, dict) for item in value))


def _labelled(parts: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    lists = (items for items in parts.values() if _is_list_of_items(items))
    items = (item for items in lists for item in items if isinstance(item, dict))
    return (item for item in items if {"label", "class_name"} <= set(item))


def _item(
    path: Path, part: str, number: int, item: dict[str, Any], facts: Mapping[str, dict[str, str]]
) -> tuple[Case, str]:
    place = item.get("image", item.get("store"))
    if not isinstance(place, str):
        raise UsageError(
            f"{path.name}: item {number} of {part} has the image {place!r}, expected one path."
        )
    row = item.get("row")
    if row is not None and (isinstance(row, bool) or not isinstance(row, int)):
        raise UsageError(
            f"{path.name}: item {number} of {part} has the row {row!r}, expected a whole number."
        )
    name = str(item.get("volume_id") or place)
    own = facts.get(name, {})
    case = Case(
        name=name,
        image=place if is_url(place) else str(path.parent / place),
        label=0,
        patient=patient_of(item),
        site=str(item.get("site") or ""),
        part={"testing": "test"}.get(part, part),
        facts=own | {k: str(item[k]) for k in ("contrast", "kernel", "model") if item.get(k)},
        group=str(item.get("group", "")),
        row=row,
    )
    return case, _class_text(path, item["label"])


def _class_text(path: Path, label: Any) -> str:
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, bool) or (isinstance(label, float) and label.is_integer()):
        label = int(label)
    if isinstance(label, (int, str)) and not str(label).lower().endswith((".nii.gz", ".nii")):
        return str(label)
    raise UsageError(
        f"{path.name}: the label {label!r} is no class; an audit is of classification."
    )


def _manifest_facts(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "manifest.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            row["volume_id"]: {k: row[k] for k in _MANIFEST_FACTS if row.get(k)}
            for row in csv.DictReader(stream)
            if row.get("volume_id")
        }


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _made(
    name: str, form: str, cases: Iterable[Case], classes: Iterable[str], notes: Iterable[str]
) -> Source:
    """Leave the test part out, name the patients, and add notes."""
    kept = list(cases)
    said = list(notes)
    tested = tuple(case for case in kept if case.part == "test")
    if len(tested) == len(kept):
        tested = ()
        said.append("There is a test part only, and it was audited: choose nothing by it.")
    if tested:
        kept = [case for case in kept if case.part != "test"]
        said.append(f"The test part ({len(tested)} images or volumes) was left alone.")
    if again := len(kept) - len({(case.image, case.row) for case in kept}):
        said.append(f"{again} images are listed again: training and validation may share them.")
    whose = sum(bool(case.patient) for case in kept)
    if whose < len(kept):
        said.append(
            f"{len(kept) - whose} of {len(kept)} name no patient: each was taken for a patient "
            "of its own. If some are of one patient, all intervals here are too narrow and all "
            "figures of places and values too high."
        )
    kept = [c if c.patient else replace(c, patient=f"image {c.name}") for c in kept]
    return Source(name, form, tuple(kept), tuple(classes), tuple(said), whose > 0, tested)


def _checked(source: Source) -> Source:
    """Refuse data sets that are too small; leave out small classes, and cases beyond the limit."""
    patients = [
        len({case.patient for case in source.cases if case.label == k})
        for k in range(len(source.classes))
    ]
    counts = Counter(case.label for case in source.cases)
    there = [k for k, n in enumerate(patients) if n]
    if len(there) > max(_MAX_CLASSES, 1) or (
        len(there) > 20 and len(there) > len(source.cases) / 5
    ):
        raise UsageError(
            f"{source.name} has {len(there)} different labels in {len(source.cases)} images, "
            "expected classes: choose a column of classes with --label."
        )
    if len(there) < 2:
        only = source.classes[there[0]] if there else "none"
        raise UsageError(
            f"{source.name} has one class only ({only}): an audit asks what tells classes apart."
        )
    large = [k for k, n in enumerate(patients) if n >= LEAST_PATIENTS]
    if len(source.cases) < LEAST_IMAGES or len(large) < 2:
        shown = ", ".join(
            f"{source.classes[k]}: {counts[k]} of {patients[k]} patients" for k in there[:6]
        )
        raise UsageError(
            f"{source.name} is too small for an audit ({shown}): expected {LEAST_IMAGES} images "
            f"and {LEAST_PATIENTS} patients in each of two classes."
        )
    notes = list(source.notes)
    small = [source.classes[k] for k in there if k not in large]
    if small:
        notes.append(f"Classes of fewer than {LEAST_PATIENTS} patients were left out: {small}.")
    number = {k: index for index, k in enumerate(large)}
    kept = [replace(c, label=number[c.label]) for c in source.cases if c.label in number]
    if len(kept) > MAX_CASES:
        notes.append(f"{MAX_CASES} of {len(kept)} cases were drawn, patient by patient.")
        kept = sample(kept, MAX_CASES)
    classes = tuple(source.classes[k] for k in large)
    tested = tuple(replace(c, label=number[c.label]) for c in source.tested if c.label in number)
    return replace(source, cases=tuple(kept), classes=classes, notes=tuple(notes), tested=tested)


def sample(cases: Iterable[Case], most: int, seed: int = 0) -> list[Case]:
    """Return at most `most` cases of whole patients drawn at random, in their order."""
    cases = list(cases)
    sizes = Counter(case.patient for case in cases)
    names = sorted(sizes)
    np.random.default_rng(seed).shuffle(names)
    kept, total = set(), 0
    for name in names:
        if total + sizes[name] <= most:
            kept.add(name)
            total += sizes[name]
    return [case for case in cases if case.patient in kept]


def split(source: Source, seed: int = 0) -> tuple[np.ndarray[Any, Any], str]:
    """Return a mask of the validation cases, bool `(n,)`, and its source.

    The data's own parts are used if no patient is in both and each class has
    `_VALIDATION_PATIENTS` patients there; else patients are dealt, class by class.
    """
    given = np.array([case.part == "validation" for case in source.cases])
    patients = np.array(source.patient)
    if not set(patients[given]) & set(patients[~given]) and all(
        len(set(patients[given & (source.label == k)])) >= _VALIDATION_PATIENTS
        and len(set(patients[~given & (source.label == k)])) >= _VALIDATION_PATIENTS
        for k in range(len(source.classes))
    ):
        return given, GIVEN
    fold = folds(source.label, source.patient, 3, seed)
    return fold == 0, "a third of the patients, drawn"


def folds(
    label: np.ndarray[Any, Any], patient: Iterable[str], count: int, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a fold for each case; a patient's cases share it, each class is dealt evenly.

    >>> folds(np.array([0, 0, 1, 1]), ["a", "a", "b", "c"], 2).tolist()[:2] in ([0, 0], [1, 1])
    True
    """
    whose = list(patient)
    first = {name: int(k) for name, k in zip(reversed(whose), label[::-1], strict=True)}
    names = sorted(first)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: first[name])
    dealt = {name: index % count for index, name in enumerate(names)}
    return np.array([dealt[name] for name in whose], np.int64)
