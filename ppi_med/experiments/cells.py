"""The cells of an experiment and their records: small JSON files that are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.io import whole_files, write_json

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One bundle run of an experiment.

    Attributes:
        name: unique in the experiment; the name of its record.
        keys: what tells it from other cells, such as method and seed.
        overrides: id -> value of the bundle's configuration.
    """

    name: str
    keys: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)


class Records:
    """The finished cells of an experiment, one file each.

    Args:
        folder: where they lie; made when the first is written.

    Example:
        >>> Records("no_such_folder").done()
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
        record = {"format": FORMAT, "cell": cell.name, **cell.keys, **result}
        write_json(self.path(cell), record)

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that have no record yet."""
        return [cell for cell in cells if not self.path(cell).exists()]

    def done(self) -> list[dict[str, Any]]:
        """Return all records, sorted by name.

        Raises:
            UsageError: a file is no record.
        """
        return [self._read(path) for path in whole_files(self.folder, ".json")]

    def require_same(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse records that were made of something else: they would stand in for what is asked.

        Args:
            wanted: cell name -> what its record has to say, such as the data's hash.

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

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UsageError(
                f"{path} is not JSON ({error}): remove it to run its cell anew."
            ) from error
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise UsageError(f"{path} is no record of format {FORMAT}: remove it.")
        return record


def in_order(records: Iterable[dict[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return records in the order of their methods, those that are not named last.

    >>> in_order([{"method": "b"}, {"method": "c"}, {"method": "a"}], ["a", "b"])
    [{'method': 'a'}, {'method': 'b'}, {'method': 'c'}]
    """
    places = {name: place for place, name in enumerate(methods)}
    return sorted(records, key=lambda record: places.get(str(record["method"]), len(places)))
