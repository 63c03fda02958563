"""The index of a tree: headers are read in parallel, series checked one by one, all streamed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ppi_med.data.dicom.geometry import Tolerances
from ppi_med.data.dicom.header import Header, read_header
from ppi_med.data.dicom.pseudonyms import Names, Pseudonyms, TrueNames, load_key
from ppi_med.data.dicom.store import HeaderStore, SeriesFiles
from ppi_med.data.dicom.table import series_row, write_table
from ppi_med.data.dicom.tree import DicomFile, FileProblem, Opener, tree_root, walk_tree
from ppi_med.data.dicom.verdict import Policy, Verdict, judge
from ppi_med.data.dicom.volume import judge_files
from ppi_med.errors import MissingFileError
from ppi_med.io import atomic_path, exclusive, write_json
from ppi_med.parallel import check_scheduler, run_tasks

STORE_NAME = "headers.sqlite"
ERRORS_NAME = "errors.jsonl"
SUMMARY_NAME = "index_summary.json"
KEY_NAME = "project.key"
_CHUNK = 32
_PASSED_OVER = ("not_dicom", "link", "dicomdir")
"""Kinds that are not problems: a tree may hold other files."""

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Chunk:
    """Files for one call of a worker."""

    base: Path
    files: tuple[DicomFile, ...]


@dataclass
class IndexSummary:
    """The result of a run.

    Attributes:
        table: the index.
        read: files whose headers were read now.
        kept: files known from an earlier run, unchanged.
        series: number of series, by status.
        codes: number of occurrences of each reason.
        problems: files without a header, by kind.
        notes: sentences on the run as a whole.
    """

    table: Path
    read: int = 0
    kept: int = 0
    series: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 success; 1 a series was refused, a file could not be read, or nothing was found."""
        bad = sum(n for kind, n in self.problems.items() if kind not in _PASSED_OVER)
        return int(bool(self.series["refused"] or bad or not self.series["volume"]))

    def text(self) -> str:
        """Return the summary as lines."""
        lines = [f"note     {note}" for note in self.notes]
        lines += [f"refused  {n} series: {code}" for code, n in sorted(self.codes.items())]
        lines += [f"file     {n} {kind}" for kind, n in sorted(self.problems.items())]
        lines.append(
            f"{self.series.total()} series: {self.series['volume']} volumes, "
            f"{self.series['refused']} refused; {self.read} headers read, {self.kept} known."
        )
        return "\n".join(lines)


def index_tree(
    root: str | Path,
    output: str | Path,
    *,
    policy: Policy | None = None,
    tolerances: Tolerances | None = None,
    identified: bool = False,
    key_file: str | Path | None = None,
    table: str = "index.csv",
    scheduler: str = "processes",
    workers: int | None = None,
    progress: bool = False,
) -> IndexSummary:
    """Index all series below a folder by their headers.

    Only copies of one instance are decoded, if the policy keeps them.

    Files written to `output`: the table (one row per series), `errors.jsonl` (one line per file
    without a header), `index_summary.json`, and `headers.sqlite`, which holds true names and paths
    and is for this machine only; with it the next run reads new files only.

    Args:
        root: a folder, a zip archive, a DICOMDIR.
        output: a folder; it may be inside `root`.
        policy: strict by default.
        tolerances: in mm.
        identified: write true patient ids, UIDs and paths instead of pseudonyms.
        key_file: the project's key; default `project.key` in `output`.
        table: name of the table; `.parquet` writes Parquet.
        scheduler: see `schedule.run_tasks`.
        workers: threads or processes; default one per core.
        progress: show a bar.

    Returns:
        The result. It includes series and files with faults; these raise no error.

    Raises:
        FileNotFoundError: if there is no such root.
        UsageError: if another run writes to the output, or its database is damaged.
        ValueError: for invalid options.
    """
    output = Path(output)
    check_scheduler(scheduler, workers)
    if not Path(root).exists():
        raise MissingFileError(f"No file or folder {root}.")
    summary = IndexSummary(output / table)
    with exclusive(output, "index"), HeaderStore(output / STORE_NAME) as store:
        names = _names(output, identified, key_file)
        read_tree(
            root,
            store,
            skip=[output],
            scheduler=scheduler,
            workers=workers,
            progress=progress,
            summary=summary,
        )
        found = judged(store, policy, tolerances, tree_root(root))
        rows = _rows(store, names, found, summary)
        write_table(summary.table, rows)
        _write_problems(output / ERRORS_NAME, store, names, summary)
        if not summary.series:
            summary.notes.append("no DICOM image was found: the folder holds none.")
        body = {"series": summary.series, "codes": summary.codes, "problems": summary.problems}
        counts = {name: dict(sorted(count.items())) for name, count in body.items()}
        about = {"notes": summary.notes, "identified": identified}
        write_json(output / SUMMARY_NAME, counts | about)
    return summary


def read_tree(
    root: str | Path,
    store: HeaderStore,
    *,
    skip: Iterable[str | Path] = (),
    scheduler: str = "processes",
    workers: int | None = None,
    progress: bool = False,
    summary: IndexSummary | None = None,
) -> None:
    """Update a store with a tree; see `index_tree`."""
    from tqdm import tqdm

    summary = summary or IndexSummary(Path())
    base = tree_root(root)
    new = _new_files(walk_tree(root, skip), store, summary)
    chunks = (Chunk(base, tuple(files)) for files in _chunks(new, _CHUNK))
    # Counted first, which takes a small part of the time that reading does.
    skip = list(skip)
    total = sum(1 for _ in walk_tree(root, skip)) if progress else None
    with tqdm(total=total, unit="file", disable=not progress, desc="DICOM headers") as bar:
        for found in run_tasks(
            read_chunk, chunks, scheduler=scheduler, workers=workers, on_death=_died
        ):
            store.add(found)
            summary.read += len(found)
            bar.update(summary.read + summary.kept - bar.n)
    store.forget_rest()


def read_chunk(chunk: Chunk) -> list[tuple[DicomFile, Header | FileProblem]]:
    """Read some headers, in a worker."""
    with Opener(chunk.base) as opener:
        return [(file, read_header(opener, file)) for file in chunk.files]


def judged(
    store: HeaderStore,
    policy: Policy | None = None,
    tolerances: Tolerances | None = None,
    base: Path | None = None,
) -> Iterator[tuple[SeriesFiles, Verdict]]:
    """Yield the series of a store with their verdicts, sorted, one at a time.

    With a base, the folder that the paths are relative to, copies that the policy keeps are
    compared.
    """
    for key in list(store.series_keys()):
        series = store.series(key)
        if base is None:
            yield series, judge(series.headers, policy, tolerances)
        else:
            yield series, judge_files(base, series.files, series.headers, policy, tolerances)


def find_file(output: str | Path, token: str, key_file: str | Path | None = None) -> str | None:
    """Return the name of the file that a pseudonym `F-...` stands for, `None` if there is none.

    Args:
        output: the index's folder.
        token: as in `errors.jsonl` or the column `place`.
        key_file: the project's key; default `project.key` in `output`.

    Raises:
        MissingFileError: if the folder holds no index.
    """
    output = Path(output)
    if not (output / STORE_NAME).is_file():
        raise MissingFileError(f"{output} holds no {STORE_NAME}, expected the folder of an index.")
    names = _names(output, False, key_file)
    with HeaderStore(output / STORE_NAME) as store:
        return next((name for name in store.names() if names.file(name) == token), None)


def _names(output: Path, identified: bool, key_file: str | Path | None) -> Names:
    if identified:
        return TrueNames()
    return Pseudonyms(load_key(key_file if key_file is not None else output / KEY_NAME))


def _new_files(
    found: Iterable[DicomFile | FileProblem], store: HeaderStore, summary: IndexSummary
) -> Iterator[DicomFile]:
    for thing in found:
        if isinstance(thing, FileProblem):
            store.add([(thing.file, thing)])
        elif store.keep(thing):
            summary.kept += 1
        else:
            yield thing


def _chunks(things: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    chunk: list[Thing] = []
    for thing in things:
        chunk.append(thing)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _died(chunk: Chunk) -> list[tuple[DicomFile, Header | FileProblem]]:
    """Read the files of a chunk that killed a process one by one, to find the one at fault."""
    if len(chunk.files) == 1:
        problem = FileProblem(chunk.files[0], "unreadable", "the process that read it died.")
        return [(chunk.files[0], problem)]
    single = [Chunk(chunk.base, (file,)) for file in chunk.files]
    # Two workers: a single one would be this process.
    found = run_tasks(read_chunk, single, scheduler="processes", workers=2, on_death=_died)
    return [pair for pairs in found for pair in pairs]


def _rows(
    store: HeaderStore,
    names: Names,
    found: Iterable[tuple[SeriesFiles, Verdict]],
    summary: IndexSummary,
) -> Iterator[dict[str, str]]:
    claimed = store.patients_of_series()
    shared = store.series_with_shared_instances()
    studies = store.studies_of_patients()
    for series, verdict in found:
        if series.key[1] in studies:
            verdict.warnings.append("other patients have a study of the same UID.")
        if series.key[2] in claimed:
            verdict.warnings.append("other patients or studies have a series of the same UID.")
        if series.key in shared:
            verdict.warnings.append("other series have a SOPInstanceUID of this one.")
        summary.series[verdict.status] += 1
        summary.codes.update({reason.code for reason in verdict.reasons})
        yield series_row(series, verdict, names)


def _write_problems(path: Path, store: HeaderStore, names: Names, summary: IndexSummary) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for problem in store.problems():
            summary.problems[problem.kind] += 1
            line = {
                "file": names.file(problem.file.name),
                "kind": problem.kind,
                "reason": problem.reason,
            }
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
