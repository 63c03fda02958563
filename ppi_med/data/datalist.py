"""MONAI's datalist, made from manifest and splits, and read back for one part, site or fold.

Also the facts for a run's record: hashes of the data, and a choice of sites as a word.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.data.manifest import ManifestRow, data_hash, iter_manifest
from ppi_med.data.splits import FILE_NAME, PARTS, Splits, crossed_parts, read_splits
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.io import write_json
from ppi_med.naming import TAG_DATA_HASH, TAG_SPLIT_HASH

UNASSIGNED = "unassigned"
"""Key of the volumes without subject, label or part in the splits: for inference only."""

_PATHS = ("image", "lesion")
_PATIENT_KEYS = ("subject", "patient", "patient_id", "subject_id")


def patient_of(item: Mapping[str, Any]) -> str:
    """Return the patient that an item of a datalist names, "" if it names none.

    Examples:
        >>> patient_of({"image": "a.png", "patient_id": 7})
        '7'
    """
    return next((str(item[key]) for key in _PATIENT_KEYS if item.get(key) not in (None, "")), "")


def make_datalist(
    rows: Iterable[ManifestRow],
    splits: Splits | None,
    *,
    has_mask: Callable[[str], bool] = lambda volume_id: False,
) -> dict[str, list[dict[str, Any]]]:
    """Build a datalist with the keys `training`, `validation`, `test` and `unassigned`.

    Args:
        rows: the manifest.
        splits: part of each subject; `None` puts every volume into `unassigned`.
        has_mask: says by volume_id whether `masks/<volume_id>.nii.gz` exists.

    Returns:
        Items with paths relative to the data set's folder, unknown text as "". Further columns of
        the manifest are in the items too.
    """
    result: dict[str, list[dict[str, Any]]] = {name: [] for name in (*PARTS, UNASSIGNED)}
    for row in rows:
        item: dict[str, Any] = {"image": f"volumes/{row.volume_id}.nii.gz"}
        if row.label is not None:
            item["label"] = row.label
        if has_mask(row.volume_id):
            item["lesion"] = f"masks/{row.volume_id}.nii.gz"
        for name in ("volume_id", "subject", "visit", "site"):
            item[name] = getattr(row, name)
        item |= {name: text for name, text in row.extra.items() if name not in item}
        usable = splits is not None and row.subject and row.label is not None
        part = splits.part_of(row.subject) if usable and splits is not None else None
        result[part or UNASSIGNED].append(item)
    return result


def write_datalist(path: str | Path, datalist: dict[str, list[dict[str, Any]]]) -> Path:
    """Write a datalist as JSON, atomically."""
    path = Path(path)
    write_json(path, datalist)
    return path


KINDS = {
    "volumes of OCT": (".nii", ".nii.gz"),
    "photographs": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm"),
    "patches of CT": (".zarr",),
}
"""Kinds of data sets, and the ends of their items' names; other names may be of any kind."""


def load_parts(
    datalist: str | Path,
    part: str | Sequence[str],
    *,
    sites: Sequence[str] | str | None = None,
    exclude_sites: Sequence[str] | str | None = None,
    fold: int | None = None,
    test_fold: int | None = None,
    splits: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Return the items of a part, with absolute paths.

    The splits file beside the datalist is read and checked: a subject in two parts, or an item in
    another part than its subject's, is an error.

    Args:
        datalist: the JSON file.
        part: `training`, `validation`, `test`, `unassigned`, or several of them.
        sites: keep only these sites.
        exclude_sites: leave these sites out.
        fold: validation is this fold, training the others; test stays.
        test_fold: for a cross-validation: test is this fold, an eighth of the other subjects
            validation, see `splits.crossed_parts`; the splits' own test part is not used.
        splits: the splits file; default `splits.json` beside the datalist.

    Returns:
        The items in the datalist's order.

    Raises:
        MissingFileError: if the datalist is missing, or the splits for a requested fold.
        UsageError: for an unknown part or site, nothing left, or a datalist that contradicts the
            splits.
    """
    path = Path(datalist)
    content = _read(path)
    wanted = [part] if isinstance(part, str) else list(part)
    for name in wanted:
        if name not in (*PARTS, UNASSIGNED):
            raise UsageError(f"part is {name!r}, expected one of {[*PARTS, UNASSIGNED]}.")
    splits_path = Path(splits) if splits is not None else path.parent / FILE_NAME
    known = read_splits(splits_path) if splits_path.exists() or splits is not None else None
    if fold is not None and test_fold is not None:
        raise UsageError(f"Got fold={fold} and test_fold={test_fold}, expected one of them.")
    either = fold if test_fold is None else test_fold
    if known is None and either is not None:
        raise MissingFileError(
            f"fold {either} needs {FILE_NAME}, which is not beside {path}: leave the fold out, or "
            "convert the data set with labels, which writes one."
        )
    _check_subjects(path, content, known)
    if test_fold is not None and known is not None:
        chosen = _crossed(content, wanted, known, test_fold)
    else:
        chosen = _items_of(content, wanted, known if fold is not None else None, fold)
    chosen = _of_sites(path, content, chosen, _names(sites), _names(exclude_sites))
    if not chosen:
        raise UsageError(
            f"{path.name}: nothing is left in {'+'.join(wanted)}"
            f"{f' of sites {_names(sites)}' if sites else ''}"
            f"{f' in fold {either}' if either is not None else ''}."
        )
    return [_resolved(item, path.parent) for item in chosen]


@dataclass(frozen=True)
class Unlabelled:
    """Images without labels, such as another site's archive; calling it returns the data set.

    Attributes:
        source: a converted folder or its datalist; all parts of it are read. None: the part
            `unassigned` of the training's own.
        own: the training's datalist.
        transform: the training's transforms, which get the label 0 for each image.
        cache_rate: share of the images that are kept in memory.
    """

    source: str | Path | None
    own: str | Path
    transform: Callable[[Any], Any]
    cache_rate: float = 0.0

    def items(self) -> list[dict[str, Any]]:
        """Return the items of the datalist, all with the label 0.

        Raises:
            UsageError: if there are none, saying what to give.
        """
        path = Path(self.own if self.source is None else self.source)
        path = path / "datalist.json" if path.is_dir() else path
        content = _read(path)
        parts = (UNASSIGNED,) if self.source is None else (*PARTS, UNASSIGNED)
        if not any(content.get(part) for part in parts):
            raise UsageError(
                f"{path} has no images without labels (part {' or '.join(parts)}): name a "
                "converted folder of another site with --unlabelled; its labels are not read."
            )
        return [{**item, "label": 0} for item in load_parts(path, parts)]

    def __call__(self) -> Any:
        """Return a data set of the images."""
        from ppi_med.data.cache import PacedCacheDataset

        return PacedCacheDataset(
            self.items(), self.transform, cache_rate=self.cache_rate, num_workers=2
        )


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    if not path.exists():
        raise MissingFileError(f"No datalist {path.name} in {path.parent}; convert a folder first.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path.name}: not JSON ({error}).") from error
    if not isinstance(content, dict) or "training" not in content:
        raise UsageError(f"{path.name}: no key 'training', expected MONAI's datalist form.")
    return {name: items for name, items in content.items() if isinstance(items, list)}


def require_kind(datalist: str | Path, expected: str) -> None:
    """Refuse the data set of another bundle before anything of it is loaded.

    Args:
        datalist: the data set's `datalist.json`.
        expected: one of `KINDS`.

    Raises:
        UsageError: naming both kinds.
    """
    try:
        content = _read(Path(datalist))
    except UsageError:
        return  # loading says what is wrong with it
    for item in (part[0] for part in content.values() if part and isinstance(part[0], dict)):
        name = str(item.get("image", "")).lower()
        found = "patches of CT" if "row" in item else ""
        if not found:
            found = next((kind for kind, ends in KINDS.items() if name.endswith(ends)), "")
        if found and found != expected:
            raise UsageError(
                f"{Path(datalist).parent} holds {found}, and this bundle takes {expected}: name "
                "another data set with --dataset_dir, or the bundle that was made for this one."
            )


def _check_subjects(
    path: Path, content: dict[str, list[dict[str, Any]]], splits: Splits | None
) -> None:
    part_of: dict[str, str] = {}
    for name in PARTS:
        for item in content.get(name, []):
            subject = str(item.get("subject", ""))
            if subject and part_of.setdefault(subject, name) != name:
                raise UsageError(
                    f"{path.name}: subject {subject!r} is in {part_of[subject]} and in {name}, "
                    "expected it in one part."
                )
            if subject and splits is not None and splits.part_of(subject) != name:
                raise UsageError(
                    f"{path.name}: subject {subject!r} is in {name}, but the splits say "
                    f"{splits.part_of(subject)}; make the datalist again from manifest and splits."
                )


def _items_of(
    content: dict[str, list[dict[str, Any]]],
    wanted: list[str],
    splits: Splits | None,
    fold: int | None,
) -> list[dict[str, Any]]:
    if splits is None:
        return [item for name in wanted for item in content.get(name, [])]
    chosen: list[dict[str, Any]] = []
    for name in (*PARTS, UNASSIGNED):
        for item in content.get(name, []):
            part = name if name == UNASSIGNED else splits.part_of(str(item["subject"]), fold)
            if part in wanted:
                chosen.append(item)
    return chosen


def _crossed(
    content: dict[str, list[dict[str, Any]]], wanted: list[str], splits: Splits, test_fold: int
) -> list[dict[str, Any]]:
    """Return the items of one round of a cross-validation."""
    items = [item for name in PARTS for item in content.get(name, [])]
    labels: dict[str, set[Any]] = {}
    for item in items:
        labels.setdefault(str(item["subject"]), set()).add(item.get("label"))
    parts = crossed_parts(splits, labels, test_fold, labels)
    return [item for item in items if parts.get(str(item["subject"])) in wanted]


def _of_sites(
    path: Path,
    content: dict[str, list[dict[str, Any]]],
    items: list[dict[str, Any]],
    keep: list[str] | None,
    drop: list[str] | None,
) -> list[dict[str, Any]]:
    there = sorted({str(i.get("site", "")) for part in content.values() for i in part})
    for site in [*(keep or []), *(drop or [])]:
        if site not in there:
            raise UsageError(f"{path.name}: no site {site!r}, expected some of {there}.")
    return [
        item
        for item in items
        if (keep is None or str(item.get("site", "")) in keep)
        and (drop is None or str(item.get("site", "")) not in drop)
    ]


def _names(value: Sequence[str] | str | None) -> list[str] | None:
    """Return a list; an empty one or "" means no filter, so that a configuration can express it."""
    if value is None or len(value) == 0:
        return None
    return [value] if isinstance(value, str) else [str(name) for name in value]


def _resolved(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    root = folder.resolve()
    return item | {name: str(root / item[name]) for name in _PATHS if name in item}


MANIFESTS = ("manifest.csv", "manifest.parquet")


def dataset_hashes(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """Return the hashes of a converted data set's manifest and splits, as tags of a run.

    Args:
        folder: with `manifest.csv` (or `.parquet`) and `splits.json`.

    Returns:
        `data_hash` and `split_hash`; None for a missing file.

    Raises:
        ValueError: if a file exists and cannot be read.

    Examples:
        >>> dataset_hashes("no/such/folder")
        {'data_hash': None, 'split_hash': None}
    """
    manifests = [path for name in MANIFESTS if (path := Path(folder) / name).is_file()]
    splits = Path(folder) / FILE_NAME
    return {
        TAG_DATA_HASH: data_hash(iter_manifest(manifests[0])) if manifests else None,
        TAG_SPLIT_HASH: read_splits(splits).hash if splits.is_file() else None,
    }


def sites_tag(
    sites: Sequence[str] | str | None, exclude_sites: Sequence[str] | str | None = None
) -> str:
    """Return a choice of sites as one word.

    Args:
        sites: those kept; None, or none: all.
        exclude_sites: those left out.

    Examples:
        >>> sites_tag(None), sites_tag("a"), sites_tag(["a", "b"]), sites_tag([], ["c"])
        ('all', 'a', 'a+b', 'all-c')
    """
    return "-".join(["+".join(_names(sites) or []) or "all", *(_names(exclude_sites) or [])])
