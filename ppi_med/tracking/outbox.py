"""Sends records in order; while the store cannot be reached, keeps them and tries again."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppi_med.errors import UnreachableError
from ppi_med.io import atomic_path

Record = dict[str, Any]


class Journal:
    """A file of records in sending order.

    Args:
        path: path of the file; it exists only while something waits.

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
        """Return the records, without a last line that a kill has truncated."""
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
        """Move the records to another file, after its own."""
        other = Journal(path)
        for record in self.read():
            other.append(record)
        self.replace([])

    def replace(self, records: list[Record]) -> None:
        """Keep only these records; an empty list removes the file."""
        if not records:
            self.path.unlink(missing_ok=True)
            return
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")


logger = logging.getLogger(__name__)


class Outbox:
    """Records for the store.

    Args:
        journal: file of waiting records.
        send: function that sends one record; raises `UnreachableError` if it may be tried again.
        open_run: function that opens the run if needed; raises `UnreachableError` likewise.
        retry_after: seconds between attempts while the store cannot be reached.
    """

    def __init__(
        self,
        journal: Journal,
        send: Callable[[Record], None],
        open_run: Callable[[], None],
        retry_after: float = 30.0,
    ) -> None:
        self.journal = journal
        self.send = send
        self.open_run = open_run
        self.retry_after = retry_after
        self._waiting: bool | None = None
        self._tried_at = -float("inf")

    def put(self, record: Record) -> None:
        """Send the record after all waiting ones, or let it wait too."""
        if not self._is_waiting():
            try:
                self.open_run()
                self.send(record)
                return
            except UnreachableError as error:
                self._begin_waiting(error)
        self.journal.append(record)
        if time.monotonic() - self._tried_at >= self.retry_after:
            self.flush()

    def flush(self, attempts: int = 1, pause: float = 1.0) -> bool:
        """Send the waiting records.

        Args:
            attempts: number of attempts while the store cannot be reached.
            pause: seconds before the second attempt; doubled each time.

        Returns:
            Whether nothing waits any more.
        """
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            if not self._is_waiting() or self._sent_all():
                return True
        return False

    def _is_waiting(self) -> bool:
        """Say whether records wait; the first call reads what an earlier process left.

        Only then: before its first record a process may learn that the folder is another one's.
        """
        if self._waiting is None:
            left = self.journal.read()
            # Never append to a truncated line: a kill may have cut the last one.
            self.journal.replace(left)
            self._waiting = bool(left)
        return self._waiting

    def _sent_all(self) -> bool:
        records = self.journal.read()
        done = 0
        try:
            self.open_run()
            for record in records:
                self._send_or_refuse(record)
                done += 1
        except UnreachableError:
            return False
        finally:
            self._tried_at = time.monotonic()
            self.journal.replace(records[done:])
        self._waiting = False
        if records:
            logger.info("The tracking store is reachable again: %d records sent.", len(records))
        return True

    def _send_or_refuse(self, record: Record) -> None:
        """Send a waiting record; one that the store refuses must not block later ones."""
        try:
            self.send(record)
        except UnreachableError:
            raise
        except Exception as error:
            logger.error(
                "The tracking store refuses a record of kind %s, which is dropped: %s",
                record["kind"],
                error,
            )

    def _begin_waiting(self, error: UnreachableError) -> None:
        self._waiting = True
        self._tried_at = time.monotonic()
        logger.warning(
            "The tracking store cannot be reached (%s): records wait in %s and are sent later.",
            error,
            self.journal.path,
        )
