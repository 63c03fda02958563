"""Records of finished cells: the interface, and its simplest form, a folder of JSON files.

`ppi_med.experiments.sweep_records` is the other form: runs of MLflow.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError
from ppi_med.evaluation.bootstrap import Part, of_mean, of_metric
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cells import Cell
from ppi_med.io import whole_files, write_json
from ppi_med.naming import TEST_ACCURACY, TEST_AUC

FORMAT = 1
Record = dict[str, Any]
One = TypeVar("One")
_DIGITS = {"score": 6, "energy_top": 4, "energy_all": 4}
_NOTHING = "-"


class Records(ABC, Generic[One]):
    """The finished cells of an experiment."""

    @abstractmethod
    def done(self) -> list[One]:
        """Return all records, sorted by the names of their cells."""

    @abstractmethod
    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a record."""

    def write(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Keep a cell's result; nothing if the cell itself has recorded it."""


class FolderRecords(Records[Record]):
    """A folder of JSON files, one per finished cell.

    Args:
        folder: their folder; made when the first is written.

    Examples:
        >>> FolderRecords("no_such_folder").done()
        []
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, cell: Cell) -> Path:
        """Return the file of a cell's record."""
        return self.folder / f"{cell.name}.json"

    def write(self, cell: Cell, result: Mapping[str, Any]) -> None:
        """Write a finished cell's record, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path(cell), {"format": FORMAT, "cell": cell.name, **cell.keys, **result})

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a record."""
        return [cell for cell in cells if not self.path(cell).exists()]

    def done(self) -> list[Record]:
        """Return all records, sorted by name.

        Raises:
            UsageError: a file is not a record.
        """
        return [self._read(path) for path in whole_files(self.folder, ".json")]

    def require_same(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse records of other data or settings: they would replace the requested ones.

        Args:
            wanted: cell name -> what its record must say, such as the data's hash.

        Raises:
            UsageError: naming the first record that says something else.
        """
        for record in self.done():
            for key, value in wanted.get(str(record["cell"]), {}).items():
                if record.get(key) != value:
                    raise UsageError(
                        f"{self.folder} holds {record['cell']} of other data or settings ({key}: "
                        f"{record.get(key)}, now {value}): give another --records folder."
                    )

    def _read(self, path: Path) -> Record:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path} is not JSON ({error}): remove it to run its cell again."
            ) from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise UsageError(f"{path} is not a record of format {FORMAT}: remove it.")
        return record


def in_order(records: Iterable[Record], methods: Sequence[str]) -> list[Record]:
    """Return records in the order of their methods, unnamed ones last.

    >>> in_order([{"method": "b"}, {"method": "c"}, {"method": "a"}], ["a", "b"])
    [{'method': 'a'}, {'method': 'b'}, {'method': 'c'}]
    """
    places = {name: place for place, name in enumerate(methods)}
    return sorted(records, key=lambda record: places.get(str(record["method"]), len(places)))


@dataclass(frozen=True)
class Cases:
    """The test cases of a record, sorted by name.

    Attributes:
        names: one per case.
        units: the unit of resampling: the subject of each, or the case itself.
        sites: "" where unknown.
        columns: `label` and `score`, or `right` (0 or 1), and measures of maps; NaN if a case has
            none.
    """

    names: list[str]
    units: list[str]
    sites: list[str]
    columns: Mapping[str, NDArray[np.float64]]

    def part(self, measure: str, stratum: str = "", seed: int = 0) -> Part:
        """Return a measure of these cases for `ppi_med.evaluation.bootstrap.interval`.

        Args:
            measure: `test/auc`, `test/accuracy`, `test/accuracy/SITE` or `test/COLUMN`.
            stratum: cases of one stratum are drawn together.
            seed: seed of the training.
        """
        if measure == TEST_AUC:
            columns = self.columns
            return of_metric(AUC, columns["label"], columns["score"], self.units, stratum, seed)
        accuracy = measure.startswith(TEST_ACCURACY)
        site = measure.removeprefix(TEST_ACCURACY).removeprefix("/") if accuracy else ""
        values = self.columns["right" if accuracy else measure.removeprefix("test/")]
        kept = np.array([not site or own == site for own in self.sites])
        return of_mean(values[kept], np.asarray(self.units)[kept], stratum, seed)

    def difference(
        self, other: Cases, measure: str = TEST_AUC, stratum: str = "", seed: int = 0
    ) -> Part:
        """Return a measure minus that of another training on the same cases.

        Raises:
            ValueError: if the cases differ.
        """
        if self.names != other.names:
            raise ValueError(
                "Two records have other test cases, expected the same ones: remove the records "
                "of other data."
            )
        return self.part(measure, stratum, seed).minus(other.part(measure, stratum, seed))


def predictions_of(path: Path) -> list[str]:
    """Return a run's CSV of test cases as lines for a record, sorted, numbers shortened."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = sorted(reader, key=lambda row: row["volume_id"])
        names = list(reader.fieldnames or ())
    for row in rows:
        row |= {k: str(round(float(row[k]), n)) for k, n in _DIGITS.items() if row.get(k)}
    return [_line(names), *(_line([row[name] for name in names]) for row in rows)]


def cases_of(record: Mapping[str, Any]) -> Cases:
    """Return the test cases of a record, in whichever form they were written.

    Lines of CSV (`predictions_of`); in older records, columns under `cases` or `predictions`, or
    space-separated texts.
    """
    found = record["cases"] if isinstance(record.get("cases"), dict) else record["predictions"]
    if isinstance(found, list):
        rows = list(csv.DictReader(found))
        found = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    elif isinstance(found["label" if "label" in found else "volume_id"], str):
        found = {
            name: list(text) if name == "label" else text.split() for name, text in found.items()
        }
    names = found["volume_id"]
    groups = found.get("group") or found.get("subject") or [""] * len(names)
    columns = {k: v for k, v in found.items() if k not in ("volume_id", "group", "subject", "site")}
    if "predicted" in columns:
        answers = zip(columns.pop("predicted"), columns.pop("label"), strict=True)
        columns["right"] = [given == wanted for given, wanted in answers]
    return Cases(
        names=list(names),
        units=[group or f"case {name}" for group, name in zip(groups, names, strict=True)],
        sites=list(found.get("site") or [""] * len(names)),
        columns={name: _numbers(values) for name, values in columns.items()},
    )


def pack_values(values: Mapping[str, float], names: Sequence[str]) -> str:
    """Return values from 0 to 1 as thousandths in the order of `names`.

    Examples:
        >>> pack_values({"a": 0.5, "b": float("nan")}, ["b", "a"])
        '- 500'
    """
    found = [values.get(name, np.nan) for name in names]
    return " ".join(_NOTHING if np.isnan(v) else f"{1000 * v:.0f}" for v in found)


def unpack_values(packed: str) -> NDArray[np.float64]:
    """Return packed values; NaN for a missing one.

    Examples:
        >>> unpack_values("- 500").tolist()
        [nan, 0.5]
    """
    return np.array([np.nan if v == _NOTHING else int(v) / 1000 for v in packed.split()])


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([np.nan if v in (None, "") else float(v) for v in values])


def _line(values: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()
