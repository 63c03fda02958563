"""The index's store: every file's header on disk, so that memory does not grow with the tree.

It holds true names and paths: the file is readable by its owner only and never part of a report.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ppi_med.data.dicom.header import READER_VERSION, Header
from ppi_med.data.dicom.tree import DicomFile, FileProblem
from ppi_med.errors import UsageError

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT, entry TEXT, size INTEGER, stamp TEXT, version INTEGER, run INTEGER,
    patient TEXT, study TEXT, series TEXT, header TEXT, kind TEXT, reason TEXT,
    PRIMARY KEY (path, entry));
CREATE INDEX IF NOT EXISTS by_series ON files (patient, study, series);
"""


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series, sorted by path.

    Attributes:
        key: patient, study and series as stated in the files; if a file has no series, its path is
            used.
        files: the files.
        headers: headers of the files.
    """

    key: tuple[str, str, str]
    files: list[DicomFile]
    headers: list[Header]


class HeaderStore:
    """Headers and problems of the files of a tree, in SQLite.

    Args:
        path: path of the database; made if missing.

    Raises:
        UsageError: also on exit, for a damaged database.
        OSError: if the file cannot be made or written to.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._base = sqlite3.connect(self._path)
        try:
            # A kill loses nothing; after a power cut the file may have to be made again.
            self._base.execute("PRAGMA synchronous = OFF")
            self._base.executescript(_TABLES)
            (last,) = self._base.execute("SELECT MAX(run) FROM files").fetchone()
        except sqlite3.Error as error:
            self._base.close()
            raise self._in_words(error) from error
        self._run = (last or 0) + 1

    def __enter__(self) -> HeaderStore:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._base.close()
        if isinstance(error, sqlite3.Error):
            raise self._in_words(error) from error

    def _in_words(self, error: sqlite3.Error) -> UsageError:
        """Return the user's remedy for an error of the database."""
        # Of the database errors, the operational ones are the system's: a full disk, no permission.
        if isinstance(error, sqlite3.OperationalError):
            return UsageError(f"{self._path}: {error}.")
        return UsageError(
            f"{self._path} is damaged or no index ({error}): remove it, and all headers are read "
            "again."
        )

    def keep(self, file: DicomFile) -> bool:
        """Mark a file's stored facts as current; say whether they are."""
        done = self._base.execute(
            "UPDATE files SET run = ? WHERE path = ? AND entry = ? AND size = ? AND stamp = ? "
            "AND version = ? AND kind NOT IN ('unreadable', 'archive', 'link')",
            (self._run, file.path, file.entry, file.size, file.stamp, READER_VERSION),
        )
        return done.rowcount == 1

    def add(self, found: Iterable[tuple[DicomFile, Header | FileProblem]]) -> None:
        """Add the new facts, and make them durable."""
        with self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (self._row(file, result) for file, result in found),
            )

    def _row(self, file: DicomFile, found: Header | FileProblem) -> tuple[object, ...]:
        key = (file.path, file.entry, file.size, file.stamp, READER_VERSION, self._run)
        if isinstance(found, FileProblem):
            return (*key, "", "", "", "", found.kind, found.reason)
        series = found.series or f"file:{file.name}"
        body = json.dumps(found.body())
        return (*key, found.patient, found.study, series, body, "", "")

    def forget_rest(self) -> None:
        """Remove the files that this run did not find."""
        with self._base:
            self._base.execute("DELETE FROM files WHERE run <> ?", (self._run,))

    def series_keys(self) -> Iterator[tuple[str, str, str]]:
        """Yield patient, study and series, sorted."""
        yield from self._base.execute(
            "SELECT DISTINCT patient, study, series FROM files WHERE kind = '' "
            "ORDER BY patient, study, series"
        )

    def series(self, key: tuple[str, str, str]) -> SeriesFiles:
        """Return the files of a series."""
        rows = self._base.execute(
            "SELECT path, entry, size, stamp, header FROM files WHERE kind = '' AND "
            "patient = ? AND study = ? AND series = ? ORDER BY path, entry",
            key,
        ).fetchall()
        files = [DicomFile(*row[:4]) for row in rows]
        return SeriesFiles(key, files, [Header.from_body(json.loads(row[4])) for row in rows])

    def modality(self, key: tuple[str, str, str]) -> str:
        """Return the modality of a series, "" if its first file states none."""
        (found,) = self._base.execute(
            "SELECT json_extract(header, '$.modality') FROM files WHERE kind = '' AND "
            "patient = ? AND study = ? AND series = ? ORDER BY path, entry LIMIT 1",
            key,
        ).fetchone()
        return str(found or "")

    def problems(self) -> Iterator[FileProblem]:
        """Yield the files without a header, sorted by path."""
        for *file, kind, reason in self._base.execute(
            "SELECT path, entry, size, stamp, kind, reason FROM files WHERE kind <> '' "
            "ORDER BY path, entry"
        ):
            yield FileProblem(DicomFile(*file), kind, reason)

    def names(self) -> Iterator[str]:
        """Yield the names of all files."""
        for path, entry in self._base.execute("SELECT path, entry FROM files ORDER BY path, entry"):
            yield DicomFile(path, entry).name

    def series_with_shared_instances(self) -> set[tuple[str, str, str]]:
        """Return the series with a SOPInstanceUID that is also in another series."""
        name = "json_extract(header, '$.instance')"
        shared = (
            f"SELECT {name} AS instance FROM files WHERE kind = '' AND instance <> '' "
            "GROUP BY instance HAVING COUNT(DISTINCT json_array(patient, study, series)) > 1"
        )
        return set(
            self._base.execute(
                "SELECT DISTINCT patient, study, series FROM files WHERE kind = '' AND "
                f"{name} IN ({shared})"
            )
        )

    def patients_of_series(self) -> dict[str, int]:
        """Return the series that more than one patient or study claims, with their number."""
        return dict(
            self._base.execute(
                "SELECT series, COUNT(*) FROM (SELECT DISTINCT patient, study, series FROM files "
                "WHERE kind = '') GROUP BY series HAVING COUNT(*) > 1"
            )
        )

    def studies_of_patients(self) -> set[str]:
        """Return the studies that more than one patient claims."""
        rows = self._base.execute(
            "SELECT study FROM files WHERE kind = '' AND study <> '' "
            "GROUP BY study HAVING COUNT(DISTINCT patient) > 1"
        )
        return {study for (study,) in rows}
