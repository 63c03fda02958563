"""Nodules in npz arrays with a table: one slice per nodule, the readers' masks as bits.

The folder holds

- `images.npz`: `id` (n,), `hu` int16 (n, rows, columns), -2000 where nothing was scanned;
- `masks.npz`: `id` in the same order, `reader_bits` uint8 (n, rows, columns): bit k is set where
  the reader in slot k + 1 marked the pixel;
- `nodules.csv`: one row per nodule in the arrays' order, with at least `id`, `patient_id`,
  `manufacturer`, `pixel_spacing_mm`, `n_readers`; `cluster_over_four` and others are optional;
- `annotations.csv`: one row per nodule and slot, with `id`, `slot`, `outlined_on_slice`.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import majority_of
from ppi_med.data.manifest import ManifestRow, real_number, truth, whole_number
from ppi_med.data.splits import PARTS, Splits, make_splits, read_splits, write_splits
from ppi_med.data.spreadsheet import is_nothing, read_sheet
from ppi_med.errors import MissingFileError, UsageError

SLOTS = 4
FILES = ("images.npz", "masks.npz", "nodules.csv", "annotations.csv")
"""Of a folder."""

MAX_BYTES = 2**33
"""Arrays that unpack to more are refused before memory is allocated."""

KEPT = ("z_mm", "model", "contrast", "series_instance_uid", "malignancy_mean")


def _text(cell: str) -> str:
    if is_nothing(cell):
        raise ValueError
    return cell


def _id(cell: str) -> str:
    """Return an id; a table with a gap makes 12.0 of 12."""
    return re.sub(r"^(\d+)\.0+$", r"\1", _text(cell).strip())


def _between(read: Callable[[str], float], low: float, high: float) -> Callable[[str], str]:
    def checked(cell: str) -> str:
        number = read(cell)
        if not low <= number <= high:
            raise ValueError
        return str(number) if isinstance(number, int) else cell

    return checked


def _flag(cell: str) -> str:
    return str(int(truth(cell)))


def _or_nothing(read: Callable[[str], str]) -> Callable[[str], str]:
    return lambda cell: read(cell) if cell.strip() else ""


@dataclass(frozen=True)
class _Column:
    """A column: the parser of a cell, its description, and whether it is required."""

    read: Callable[[str], str]
    words: str
    needed: bool = True


_READERS = _Column(_between(whole_number, 0, SLOTS), f"readers, 0 to {SLOTS}")
_YES = "0 or 1 (or True or False)"
_NODULES = {
    "id": _Column(_id, "an id"),
    "patient_id": _Column(_text, "a patient's id"),
    "manufacturer": _Column(_text, "a site"),
    "pixel_spacing_mm": _Column(_between(real_number, 0.01, 10), "mm, 0.01 to 10"),
    "n_readers": _READERS,
    "cluster_over_four": _Column(_flag, _YES, False),
    "contrast": _Column(_or_nothing(_flag), f"{_YES} or nothing", False),
    "z_mm": _Column(_or_nothing(_between(real_number, -1e5, 1e5)), "mm or nothing", False),
    "malignancy_mean": _Column(
        _or_nothing(_between(real_number, 1, 5)), "1 to 5 or nothing", False
    ),
}
_SLOTS = {
    "id": _NODULES["id"],
    "slot": _Column(_between(whole_number, 1, SLOTS), f"a slot, 1 to {SLOTS}"),
    "outlined_on_slice": _Column(_flag, _YES),
}


@dataclass(frozen=True)
class NodulesNpz:
    """The arrays and the table of a folder.

    Attributes:
        hu: int16, `(n, rows, columns)`.
        reader_bits: uint8, of the same shape.
        state: int8, `(n, 4)`: 0 no such reader, 1 without an outline on this slice, 2 with one.
        rows: one per nodule.
    """

    hu: NDArray[np.int16]
    reader_bits: NDArray[np.uint8]
    state: NDArray[np.int8]
    rows: list[dict[str, str]]

    def readers(self, index: int) -> NDArray[np.uint8]:
        """Return the masks of the four slots, `(4, rows, columns)`."""
        bits = np.arange(SLOTS, dtype=np.uint8)[:, None, None]
        return np.asarray((self.reader_bits[index] >> bits) & 1)

    def arrays(self, index: int, majority: float = 0.5) -> dict[str, NDArray[Any]]:
        """Return `hu`, `readers`, `state`, `union` and `majority` of a nodule."""
        readers = self.readers(index)
        marked = int((self.state[index] == 2).sum())
        return {
            "hu": self.hu[index],
            "readers": readers,
            "state": self.state[index],
            "union": np.asarray(readers.any(axis=0).astype(np.uint8)),
            "majority": majority_of(readers, marked, majority),
        }

    def label(self, index: int, min_readers: int) -> int:
        """Return 1 if at least `min_readers` readers drew the nodule, else 0."""
        return int(int(self.rows[index]["n_readers"]) >= min_readers)


def read_nodules_npz(folder: str | Path) -> NodulesNpz:
    """Read a folder and check that its four files fit each other.

    Returns:
        Arrays and table.

    Raises:
        MissingFileError: if one of the files is missing.
        UsageError: naming the file that does not fit, or the column, row and value.
    """
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise MissingFileError(f"No {', '.join(missing)} in {folder}, expected {list(FILES)}.")
    rows = _table(folder / "nodules.csv", _NODULES)
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UsageError(f"nodules.csv: the id {twice!r} comes twice, expected it once.")
    hu = _array(folder / "images.npz", "hu", ids)
    bits = _array(folder / "masks.npz", "reader_bits", ids)
    if hu.shape != bits.shape or hu.ndim != 3:
        raise UsageError(
            f"masks.npz has the shape {bits.shape}, expected that of images.npz, {hu.shape}."
        )
    if hu.dtype != np.int16 or bits.dtype != np.uint8:
        raise UsageError(
            f"images.npz holds {hu.dtype} and masks.npz {bits.dtype}, expected int16 and uint8."
        )
    if bits.max(initial=0) >= 1 << SLOTS:
        raise UsageError(f"masks.npz has bits above the {SLOTS} slots: expected values 0 to 15.")
    return NodulesNpz(hu, bits, _states(folder / "annotations.csv", ids), rows)


def nodule_splits(
    nodules: NodulesNpz,
    *,
    min_readers: int = 3,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    folds: int = 5,
    seed: int = 0,
    path: str | Path | None = None,
) -> Splits:
    """Split the patients, evenly by manufacturer and label.

    Args:
        nodules: from `read_nodules_npz`.
        min_readers: least number of readers of the label.
        fractions: for training, validation, test; (0.8, 0.2, 0) leaves all patients to the folds.
        folds: over training and validation.
        seed: seed of the shuffle.
        path: file of the splits: read if it exists, else written.

    Returns:
        The splits.

    Raises:
        ValueError: if the file's patients are not those of the table.
    """
    if path is not None and Path(path).exists():
        splits = read_splits(path)
        known = {name for part in PARTS for name in splits.parts[part]}
        patients = {row["patient_id"] for row in nodules.rows}
        if known != patients:
            odd = sorted(known ^ patients)[0]
            raise ValueError(
                f"{Path(path).name} and nodules.csv do not have the same patients, for example "
                f"{odd!r}: name another file."
            )
        return splits
    manifest = (
        ManifestRow(
            row["id"],
            subject=row["patient_id"],
            site=row["manufacturer"],
            label=nodules.label(index, min_readers),
        )
        for index, row in enumerate(nodules.rows)
    )
    splits = make_splits(manifest, fractions=fractions, folds=folds, seed=seed)
    if path is not None:
        write_splits(path, splits)
    return splits


def _table(path: Path, columns: Mapping[str, _Column]) -> list[dict[str, str]]:
    """Read a table; a cell that is not what its column names is refused by place and value."""
    sheet = read_sheet(path, columns)
    needed = [name for name, column in columns.items() if column.needed]
    lacking = [name for name in needed if name not in sheet.columns]
    if lacking:
        raise UsageError(f"{path.name} has no column {lacking[0]!r}, expected {needed}.")
    rows = ((line, dict(zip(sheet.columns, cells, strict=True))) for line, cells in sheet.rows)
    return [_read_row(row, columns, f"{path.name}, line {line}") for line, row in rows]


def _read_row(row: dict[str, str], columns: Mapping[str, _Column], where: str) -> dict[str, str]:
    for name, column in columns.items():
        if name in row:
            try:
                row[name] = column.read(row[name])
            except (ValueError, OverflowError):
                text = f"{where}: {name} is {row[name]!r}, expected {column.words}."
                raise UsageError(text) from None
    return row


def _array(path: Path, name: str, ids: Sequence[str]) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_BYTES:
            raise UsageError(f"{path.name} unpacks to {size} bytes, expected at most {MAX_BYTES}.")
        with np.load(path, allow_pickle=False) as file:
            for wanted in ("id", name):
                if wanted not in file:
                    raise UsageError(
                        f"{path.name} has no array {wanted!r}, expected id and {name}."
                    )
            if [_id(str(number)) for number in file["id"].tolist()] != list(ids):
                raise UsageError(f"{path.name} has other ids, or another order, than nodules.csv.")
            return np.asarray(file[name])
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path.name} cannot be read ({error}): expected numpy's .npz.") from error


def _states(path: Path, ids: Sequence[str]) -> NDArray[np.int8]:
    places = {name: index for index, name in enumerate(ids)}
    states = np.zeros((len(ids), SLOTS), np.int8)
    for row in _table(path, _SLOTS):
        if row["id"] not in places:
            raise UsageError(f"{path.name}: nodules.csv has no nodule {row['id']}.")
        states[places[row["id"]], int(row["slot"]) - 1] = 1 + int(row["outlined_on_slice"])
    return states
