"""The manifest: one row per volume, typed, as CSV or Parquet.

Its words are those of any stack of images: slices, rows, columns. Facts of one modality, such as
the eye of an OCT volume, are extra columns. Tables from before 0.2.0 have OCT's words;
`GENERAL_NAMES` translates them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.io import atomic_path

_TEXT = ("volume_id", "subject", "visit", "site", "label_rule")
_SIZES = ("n_slices", "rows_px", "columns_px")
_SPACING = ("spacing_columns_mm", "spacing_rows_mm", "spacing_slices_mm")
COLUMNS = (
    *_TEXT[:4],
    "label",
    "label_rule",
    *_SIZES,
    *_SPACING,
    "source_file",
    "source_sha256",
    "reader",
    "provenance",
    "warnings",
)
GENERAL_NAMES = {
    "depth_px": "rows_px",
    "width_px": "columns_px",
    "spacing_lateral_mm": "spacing_columns_mm",
    "spacing_axial_mm": "spacing_rows_mm",
    "spacing_between_mm": "spacing_slices_mm",
}
"""OCT's word for a column, and the manifest's: a B-scan is a slice, an A-scan a column of it."""


@dataclass(frozen=True)
class ManifestRow:
    """One volume of a data set.

    Unknown values are "" (text) or `None` (numbers), never a guess.

    Attributes:
        volume_id: name of its files below `volumes/` and `masks/`.
        subject: the person; splits never divide a subject.
        visit: from the labels or the file name.
        site: clinic or device.
        label: class index.
        label_rule: rule of the label.
        n_slices: number of slices.
        rows_px: rows of a slice.
        columns_px: columns of a slice, after padding.
        spacing_columns_mm: mm between columns.
        spacing_rows_mm: mm between rows.
        spacing_slices_mm: mm between slices.
        source_file: relative to the folder that was converted, with forward slashes.
        source_sha256: SHA-256 hash of the file, or of the files of a folder.
        reader: name of its reader.
        provenance: the source of each value that is not the file's own.
        warnings: sentences.
        extra: further columns, kept as text; for OCT `eye`: "OD", "OS" or "".
    """

    volume_id: str
    subject: str = ""
    visit: str = ""
    site: str = ""
    label: int | None = None
    label_rule: str = ""
    n_slices: int | None = None
    rows_px: int | None = None
    columns_px: int | None = None
    spacing_columns_mm: float | None = None
    spacing_rows_mm: float | None = None
    spacing_slices_mm: float | None = None
    source_file: str = ""
    source_sha256: str = ""
    reader: str = ""
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """Return the row as text, in the form of the CSV."""
        row = {name: _cell(getattr(self, name)) for name in COLUMNS}
        row["provenance"] = json.dumps(self.provenance, ensure_ascii=False, sort_keys=True)
        row["warnings"] = json.dumps(list(self.warnings), ensure_ascii=False)
        return self.extra | row

    @classmethod
    def from_cells(cls, cells: dict[str, str], where: str = "manifest") -> ManifestRow:
        """Build a row from text cells.

        Args:
            cells: column name to text; unknown columns go to `extra`.
            where: the row's name in an error.

        Raises:
            UsageError: for a missing `volume_id` or a cell that must be a number and is not.
        """
        cells = {GENERAL_NAMES.get(name, name): text for name, text in cells.items()}
        if not cells.get("volume_id"):
            raise UsageError(f"{where}: no volume_id, expected one in every row.")
        known: dict[str, Any] = {name: cells.get(name, "") for name in _TEXT}
        known |= {name: cells.get(name, "") for name in ("source_file", "source_sha256", "reader")}
        for names, read in ((("label", *_SIZES), whole_number), (_SPACING, real_number)):
            for name in names:
                known[name] = _optional(cells.get(name, ""), read, name, where)
        origins = _json(cells.get("provenance", ""), {}, "provenance", where)
        known["provenance"] = {GENERAL_NAMES.get(k, k): text for k, text in origins.items()}
        known["warnings"] = tuple(_json(cells.get("warnings", ""), [], "warnings", where))
        known["extra"] = {k: v for k, v in cells.items() if k not in COLUMNS}
        return cls(**known)


def write_manifest(path: str | Path, rows: Iterable[ManifestRow]) -> Path:
    """Write rows to `.csv` or `.parquet`, one after the other, atomically.

    The columns are those of the first row; a later row with a further column is refused.

    Returns:
        The path.

    Raises:
        ValueError: for a row whose extra columns are not those of the first one or have the name
            of one of `COLUMNS`, or a volume_id that comes twice.
        ImportError: for Parquet without pyarrow.
    """
    path, rows = Path(path), _checked(rows)
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows)
        else:
            with temporary.open("w", newline="", encoding="utf-8") as stream:
                _write_csv(stream, rows)
    return path


def _checked(rows: Iterable[ManifestRow]) -> Iterator[ManifestRow]:
    """Yield the rows; raise if a file could not distinguish them or hold their columns."""
    seen: set[str] = set()
    extra: list[str] | None = None
    for row in rows:
        if row.volume_id in seen:
            raise ValueError(f"volume_id {row.volume_id!r} comes twice, expected it once.")
        seen.add(row.volume_id)
        if extra is None:
            extra = list(row.extra)
            for name in extra:
                if name in COLUMNS or name in GENERAL_NAMES:
                    raise ValueError(f"the extra column {name!r} is one of the manifest's own.")
        elif list(row.extra) != extra:
            raise ValueError(
                f"{row.volume_id} has the extra columns {list(row.extra)}, expected those of the "
                f"first row: {extra}."
            )
        yield row


def _write_csv(stream: Any, rows: Iterable[ManifestRow]) -> None:
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(stream, [*COLUMNS, *row.extra], lineterminator="\n")
            writer.writeheader()
        writer.writerow(row.cells())
    if writer is None:
        csv.DictWriter(stream, COLUMNS, lineterminator="\n").writeheader()


def iter_manifest(path: str | Path) -> Iterator[ManifestRow]:
    """Yield the rows of a manifest one by one.

    Raises:
        MissingFileError: if there is no such file.
        UsageError: naming file and line of a row that cannot be read.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "manifest.csv"
        >>> _ = write_manifest(path, [ManifestRow("a", subject="s1", label=1)])
        >>> [(row.volume_id, row.label, row.spacing_rows_mm) for row in iter_manifest(path)]
        [('a', 1, None)]
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"No manifest {path.name} in {path.parent}.")
    if path.suffix == ".parquet":
        yield from _iter_parquet(path)
        return
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if "volume_id" not in (reader.fieldnames or ()):
            raise UsageError(
                f"{path.name}: no column volume_id among {reader.fieldnames}; not a manifest."
            )
        for cells in reader:
            where = f"{path.name}, line {reader.line_num}"
            if None in cells or None in cells.values():
                raise UsageError(f"{where}: not as many cells as the first line has columns.")
            yield ManifestRow.from_cells(cells, where)


def read_manifest(path: str | Path) -> list[ManifestRow]:
    """Return all rows; see `iter_manifest`."""
    return list(iter_manifest(path))


def data_hash(rows: Iterable[ManifestRow]) -> str:
    """Return a hash of a model's training data: volumes, labels and the sources' hashes.

    It does not depend on the order of the rows, nor on paths or warnings.
    """
    lines = sorted(
        f"{row.volume_id}\t{row.subject}\t{row.site}\t{row.label}\t{row.source_sha256}"
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _write_parquet(path: Path, rows: Iterable[ManifestRow], batch: int = 4096) -> None:
    """Write row groups of `batch` rows; all columns are text, as in the CSV."""
    pyarrow, parquet = _pyarrow()
    writer: Any = None
    names: list[str] = []
    pending: list[dict[str, str]] = []

    def flush() -> None:
        nonlocal writer
        table = pyarrow.table(
            {n: pyarrow.array([c[n] for c in pending], pyarrow.string()) for n in names}
        )
        if writer is None:
            writer = parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
        pending.clear()

    for row in rows:
        names = names or [*COLUMNS, *row.extra]
        pending.append(row.cells())
        if len(pending) == batch:
            flush()
    names = names or list(COLUMNS)
    if pending or writer is None:
        flush()
    writer.close()


def _iter_parquet(path: Path) -> Iterator[ManifestRow]:
    _, parquet = _pyarrow()
    with parquet.ParquetFile(path) as file:
        for group in file.iter_batches():
            for cells in group.to_pylist():
                yield ManifestRow.from_cells(cells, path.name)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            "A Parquet manifest needs pyarrow: install it, or write manifest.csv."
        ) from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def whole_number(text: str) -> int:
    """Read a whole number in the forms of tables, pandas and spreadsheets included.

    Raises:
        ValueError: for anything else, such as 1.5, NaN or nothing.

    Examples:
        >>> whole_number("3"), whole_number(" 3.0 "), whole_number("-1")
        (3, 3, -1)
    """
    number = real_number(text)
    if not number.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def real_number(text: str) -> float:
    """Read a finite number.

    Raises:
        ValueError: for anything else.

    Examples:
        >>> real_number("0.5"), real_number("1e-2")
        (0.5, 0.01)
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def truth(text: str) -> bool:
    """Read yes or no in the forms of tables: 1, 1.0, True, and their opposites.

    Raises:
        ValueError: for anything else, such as 2 or nothing.

    Examples:
        >>> truth("1.0"), truth("TRUE"), truth("0"), truth("False")
        (True, True, False, False)
    """
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    number = real_number(word)
    if number not in (0, 1):
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return number == 1


def _optional(text: str, read: Callable[[str], Any], name: str, where: str) -> Any:
    if text.strip() == "":
        return None
    try:
        return read(text)
    except (ValueError, OverflowError):
        kind = "a whole number" if read is whole_number else "a number"
        raise UsageError(f"{where}: {name} is {text!r}, expected {kind} or nothing.") from None


def _json(text: str, empty: Any, name: str, where: str) -> Any:
    if text.strip() == "":
        return empty
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, type(empty)):
        raise UsageError(f"{where}: {name} is {text!r}, expected JSON like {empty}.")
    return value
