"""A folder of OCT files to a data set: volumes, masks, manifest, datalist, splits, report."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import cast

from ppi_med.data.datalist import make_datalist, write_datalist
from ppi_med.data.manifest import ManifestRow, read_manifest, write_manifest
from ppi_med.data.oct.assemble import FILE_NAME as REPORT_NAME
from ppi_med.data.oct.assemble import ConversionReport, Outcome, assemble
from ppi_med.data.oct.labels import Labels, compile_pattern, facts_for_sources
from ppi_med.data.oct.options import ConvertOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.sources import Found, find_sources, unique_names, volume_name
from ppi_med.data.oct.worker import RECORDS, Result, Task, convert_source
from ppi_med.data.splits import FILE_NAME as SPLITS_NAME
from ppi_med.data.splits import Splits, check_stratify, make_splits, read_splits, write_splits
from ppi_med.data.spreadsheet import alike
from ppi_med.errors import UsageError
from ppi_med.io import exclusive, remove_left_overs
from ppi_med.parallel import run_tasks

MANIFEST_NAME = "manifest.csv"
DATALIST_NAME = "datalist.json"


class ConversionError(UsageError):
    """A conversion that cannot start; nothing was changed."""


@dataclass
class _Run:
    """What one call works on."""

    options: ConvertOptions
    tasks: list[Task]
    notes: list[str] = field(default_factory=list)


def convert_folder(options: ConvertOptions) -> ConversionReport:
    """Convert every OCT volume below a folder.

    A source that cannot be read is reported, and the others are still converted. Unchanged results
    of an earlier run (same source, same options, files there) are kept. The result does not depend
    on the number of workers. Two conversions into one folder at once are refused.

    Args:
        options: source, output and all other options; see `ConvertOptions.of`.

    Returns:
        The report; it was also written to `conversion_report.json`.

    Raises:
        FileNotFoundError: if the source or the table is missing.
        ValueError: for invalid options or an invalid table.
        ConversionError: if the output holds another data set, or another conversion works in it.
        OutputError: if the output cannot be written: full, or read-only.
    """
    table = Labels(options.labels) if options.labels is not None else None
    pattern = compile_pattern(options.pattern) if options.pattern is not None else None
    extra = table.extra_columns if table is not None else ()
    check_stratify(options.splits.stratify, extra)
    found = find_sources(options.source, images=options.images, skip=[options.output])
    sources, facts = facts_for_sources(found.sources, table, pattern)
    names = unique_names(sources, _plain_name)
    tasks = [
        Task(source, name, known, options)
        for source, name, known in zip(sources, names, facts, strict=True)
    ]
    run = _Run(options, tasks, [*(table.notes if table is not None else ())])
    _note_found(run, found)
    with exclusive(options.output, "conversion"):
        return _convert(run, extra)


def _note_found(run: _Run, found: Found) -> None:
    source = run.options.source
    if found.ignored:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found.ignored.items()))
        run.notes.append(f"files of other kinds skipped: {kinds}.")
    if not run.tasks:
        run.notes.append(f"no OCT file was found in {source.name or source}.")


def _convert(run: _Run, extra: tuple[str, ...]) -> ConversionReport:
    options = run.options
    _check_output(run)
    for folder in ("volumes", "masks", RECORDS, "."):  # leftovers of a killed run
        remove_left_overs(options.output / folder)
    results, interrupted = _run_all(run)
    rows, outcomes = assemble(results, options, extra)
    run.notes += alike(row.subject for row in rows)
    if not interrupted:
        _finish(run, rows)
    report = ConversionReport(tuple(outcomes), tuple(run.notes), interrupted, options.output)
    report.write(options.output / REPORT_NAME)
    return report


def _run_all(run: _Run) -> tuple[list[Result], bool]:
    """Run the tasks; return their results in order, and whether the user stopped them."""
    from tqdm import tqdm

    shown = run.options.progress and bool(run.tasks)
    workers = min(run.options.workers or os.cpu_count() or 1, max(len(run.tasks), 1))
    results: list[Result] = []
    found = run_tasks(convert_source, run.tasks, workers=workers, on_death=_died)
    done = cast(Generator[Result, None, None], found)
    bar = tqdm(total=len(run.tasks), unit="file", disable=not shown, desc="OCT")
    with bar, closing(done):
        try:
            for result in done:
                results.append(result)
                bar.update()
                if result.status == "failed" and shown:
                    bar.write(f"failed  {result.relative}: {result.reason}")
        except KeyboardInterrupt:
            return results, True
    return results, False


def _died(task: Task) -> Result:
    return task.result(
        "failed", "the process that read it died (out of memory, or a damaged file)."
    )


def _plain_name(source: Source) -> str:
    return volume_name(source.relative, folder=os.path.isdir(source.path))


def _check_output(run: _Run) -> None:
    """Refuse an output that holds volumes of other sources, or remove them on request."""
    output = run.options.output
    manifest = output / MANIFEST_NAME
    if not manifest.exists():
        return
    there = {task.source.relative for task in run.tasks}
    foreign = [row for row in read_manifest(manifest) if row.source_file not in there]
    if not foreign:
        return
    if not run.options.prune:
        source = run.options.source.name or run.options.source
        raise ConversionError(
            f"{manifest.name} in {output} lists {len(foreign)} volumes whose source is not in "
            f"{source}, first {foreign[0].source_file!r}. Choose another output folder, or give "
            "--prune to remove them."
        )
    for row in foreign:
        for folder in ("volumes", "masks"):
            (output / folder / f"{row.volume_id}.nii.gz").unlink(missing_ok=True)
        (output / RECORDS / f"{row.volume_id}.json").unlink(missing_ok=True)
    run.notes.append(f"{len(foreign)} volumes without a source removed.")


def _finish(run: _Run, rows: list[ManifestRow]) -> None:
    """Write manifest, splits and datalist; without a volume, remove those of an earlier run."""
    output = run.options.output
    if not rows:
        old = [output / name for name in (MANIFEST_NAME, DATALIST_NAME)]
        old = [path for path in old if path.exists()]
        for path in old:
            path.unlink()
        if old:
            names = " and ".join(path.name for path in old)
            run.notes.append(f"no volume is left: {names} of the earlier run removed.")
        return
    write_manifest(output / MANIFEST_NAME, rows)
    splits = _splits(run, rows)
    datalist = make_datalist(
        rows, splits, has_mask=lambda name: (output / "masks" / f"{name}.nii.gz").exists()
    )
    write_datalist(output / DATALIST_NAME, datalist)
    left = len(datalist["unassigned"])
    if left:
        run.notes.append(
            f"{left} of {len(rows)} volumes are in no part (subject or label unknown, or subject "
            "new to the splits): see 'unassigned' in the datalist."
        )


def _splits(run: _Run, rows: list[ManifestRow]) -> Splits | None:
    """Read the splits if they exist, else make them if possible."""
    options = run.options.splits
    path = run.options.output / SPLITS_NAME
    if path.exists() and not options.new_splits:
        splits = read_splits(path)
        new = {r.subject for r in rows if r.subject and r.label is not None}
        new = {subject for subject in new if splits.part_of(subject) is None}
        if new:
            run.notes.append(
                f"{len(new)} subjects are not in {SPLITS_NAME}, which is written once: "
                "give --new-splits to part all subjects again."
            )
        return splits
    if not any(row.subject and row.label is not None for row in rows):
        run.notes.append(
            "no splits: no volume has both subject and label (give --labels or --pattern)."
        )
        return None
    try:
        splits = make_splits(
            rows,
            fractions=options.fractions,
            folds=options.folds,
            seed=options.seed,
            stratify=options.stratify,
        )
    except ValueError as error:
        run.notes.append(f"no splits: {error}")
        return None
    write_splits(path, splits, overwrite=options.new_splits)
    return splits


__all__ = ["ConversionError", "ConversionReport", "Outcome", "convert_folder"]
