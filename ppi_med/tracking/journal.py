"""Records that wait for the server: JSON lines on disk, in order."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ppi_med.io import atomic_path

Record = dict[str, Any]


class Journal:
    """A file of records in the order in which they are to be sent.

    Args:
        path: of the file; it exists only while something waits.

    Examples:
        >>> import tempfile
        >>> journal = Journal(tempfile.mkdtemp() + "/pending.jsonl")
        >>> journal.append({"kind": "tags"})
        >>> journal.read()
        [{'kind': 'tags'}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __len__(self) -> int:
        return len(self.read())

    def append(self, record: Record) -> None:
        """Add a record at the end, on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Record]:
        """Return the records. A last line that was torn by a kill is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        records = []
        for number, line in enumerate(lines):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                if number != len(lines) - 1:
                    raise
        return records

    def move(self, path: str | os.PathLike[str]) -> None:
        """Move the records to another file, behind those that are there."""
        other = Journal(path)
        for record in self.read():
            other.append(record)
        self.replace([])

    def replace(self, records: list[Record]) -> None:
        """Keep only these records; none removes the file."""
        if not records:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
