"""The index as a table: one row per series, CSV or Parquet, written row by row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ppi_med.data.dicom.header import Header
from ppi_med.data.dicom.pseudonyms import Names
from ppi_med.data.dicom.store import SeriesFiles
from ppi_med.data.dicom.verdict import Verdict
from ppi_med.io import atomic_path

COLUMNS = (
    *("patient", "study", "series", "modality", "manufacturer", "model", "kernel"),
    *("status", "codes", "reasons", "warnings"),
    *("files", "slices", "rows", "columns", "spacing_row_mm", "spacing_column_mm"),
    *("step_mm", "thickness_mm", "plane", "oblique_deg", "normal", "tilt_deg", "tilt_tag_deg"),
    *("gaps", "shared_positions", "duplicates", "transfer_syntax", "slope", "intercept"),
    *("contrast", "photometric", "sop_class", "damaged_files", "place"),
)
_TEXTS = ("modality", "manufacturer", "model", "kernel", "photometric") + (
    "transfer_syntax",
    "sop_class",
)
_BATCH = 1024


def series_row(series: SeriesFiles, verdict: Verdict, names: Names) -> dict[str, str]:
    """Return one row as text; unknown values are "", several values are joined by " | "."""
    headers, stack = series.headers, verdict.stack
    spacing = stack.spacing or (None, None)
    normal = " ".join(f"{value:.6g}" for value in stack.normal or ())
    patient, study, uid = series.key
    values: dict[str, Any] = {
        "patient": names.patient(patient),
        "study": names.uid(study),
        "series": names.uid(uid) if headers[0].series else "",
        "status": verdict.status,
        "codes": " ".join(dict.fromkeys(reason.code for reason in verdict.reasons)),
        "reasons": "; ".join(reason.text for reason in verdict.reasons),
        "warnings": "; ".join(verdict.warnings),
        "files": len(headers),
        "slices": verdict.frames,
        "spacing_row_mm": spacing[0],
        "spacing_column_mm": spacing[1],
        "step_mm": stack.step_mm,
        "plane": stack.plane,
        "oblique_deg": stack.oblique_deg,
        "normal": normal,
        "tilt_deg": stack.tilt_deg,
        "gaps": stack.gaps,
        "shared_positions": stack.shared,
        "duplicates": verdict.duplicates,
        "contrast": int(any(header.contrast is not None for header in headers)),
        "damaged_files": sum(bool(header.pixel_problem) for header in headers),
        "place": names.file(series.files[0].name),
    }
    same = {"thickness_mm": "thickness", "tilt_tag_deg": "tilt"}
    for column in COLUMNS:
        if column not in values:
            read = names.text if column in _TEXTS else str
            values[column] = _all_of(headers, same.get(column, column), read)
    return {column: _cell(values[column]) for column in COLUMNS}


def write_table(path: str | Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write rows to `.csv` or `.parquet`, one after the other, atomically.

    Raises:
        ValueError: for another suffix.
        ImportError: for Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(
            f"the table's name is {path.name}, expected it to end in .csv or .parquet."
        )
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows)
        else:
            with temporary.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    return path


def _write_parquet(path: Path, rows: Iterable[dict[str, str]]) -> None:
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError("A Parquet table needs pyarrow: install it, or write .csv.") from error
    schema = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, str]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
                batch.clear()
        if batch:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def _all_of(headers: Sequence[Header], name: str, read: Callable[[str], str]) -> str:
    """Return the values of all files, the most frequent first; most often there is one."""
    found = (getattr(header, name) for header in headers)
    counts = Counter(read(v) if isinstance(v, str) else _cell(v) for v in found)
    values = sorted((v for v in counts if v), key=lambda value: (-counts[value], value))
    return " | ".join(values[:8]) + (" | ..." if len(values) > 8 else "")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    text = str(value)
    # A spreadsheet would execute a header's text that begins like this.
    risky = text.startswith(("=", "+", "@")) or (text.startswith("-") and not _number(text))
    return f"'{text}" if risky else text


def _number(text: str) -> bool:
    try:
        float(text.split()[0])
    except (ValueError, IndexError):
        return False
    return True
