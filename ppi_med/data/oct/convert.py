"""A folder of OCT files to a data set: volumes, masks, manifest, datalist, splits, report."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ppi_med.data.datalist import make_datalist, write_datalist
from ppi_med.data.manifest import ManifestRow, read_manifest, write_manifest
from ppi_med.data.oct.assemble import assemble
from ppi_med.data.oct.labels import Facts, Labels, compile_pattern, told_facts
from ppi_med.data.oct.names import unique_names, volume_name
from ppi_med.data.oct.options import Policy, ReadOptions, parse_spacing
from ppi_med.data.oct.pool import run_all
from ppi_med.data.oct.report import FILE_NAME as REPORT_NAME
from ppi_med.data.oct.report import ConversionReport, Outcome
from ppi_med.data.oct.sources import ImageMode, Source, find_sources
from ppi_med.data.oct.volume import Laterality, Spacing
from ppi_med.data.oct.worker import RECORDS, Task
from ppi_med.data.splits import FILE_NAME as SPLITS_NAME
from ppi_med.data.splits import Splits, check_stratify, make_splits, read_splits, write_splits
from ppi_med.io import remove_left_overs

MANIFEST_NAME = "manifest.csv"
DATALIST_NAME = "datalist.json"


class ConversionError(RuntimeError):
    """A conversion that cannot start; nothing was changed."""


@dataclass(frozen=True)
class SplitOptions:
    """How the subjects are parted; see `ppi_med.data.splits.make_splits`.

    Attributes:
        fractions: for training, validation and test.
        folds: over training and validation.
        seed: of the shuffle.
        stratify: manifest columns that make the strata.
        renew: replace an existing splits file.
    """

    fractions: Sequence[float] = (0.6, 0.2, 0.2)
    folds: int = 5
    seed: int = 0
    stratify: Sequence[str] = ("site", "label")
    renew: bool = False


@dataclass
class _Run:
    """What one call works on."""

    root: Path
    output: Path
    tasks: list[Task]
    labels: Labels | None
    notes: list[str] = field(default_factory=list)


def convert_folder(
    source: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    pattern: str | None = None,
    spacing: Spacing | tuple[float | None, float | None, float | None] | str | None = None,
    spacing_overrides: bool = False,
    laterality: Laterality | None = None,
    shape: tuple[int, int, int] | None = None,
    pad_width: int | None = None,
    variable: str | None = None,
    mask_variable: str | None = None,
    axes: str = "dwn",
    window: tuple[float, float] | None = None,
    colour: Policy = "refuse",
    images: ImageMode = "stack",
    expect_slices: int | None = None,
    slices_policy: Policy = "refuse",
    laterality_policy: Policy = "refuse",
    subject_policy: Policy = "refuse",
    splits: SplitOptions | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    prune: bool = False,
    salt: str = "",
    progress: bool = True,
) -> ConversionReport:
    """Convert every OCT volume below a folder.

    A source that cannot be read is reported and the rest goes on. What an earlier run did and is
    unchanged (same source, same options, files there) is kept. The result does not depend on the
    number of workers.

    Args:
        source: a folder, or one file.
        output: the data set's folder; it may lie inside `source`.
        labels: table with a column `file` and any of subject, eye, visit, site, label.
        pattern: regular expression with groups of these names, searched in the relative path; the
            table wins.
        spacing: (lateral, axial, between) in mm, `None` or "?" where unknown, for files that do
            not tell.
        spacing_overrides: let `spacing` win over the files.
        laterality: for files that do not tell.
        shape: (depth, width, B-scans) of formats without a header.
        pad_width: widen narrower volumes to this by repeating the edge.
        variable: name of the volume in a .mat file.
        mask_variable: name of the lesion mask in a .mat file.
        axes: order of the axes in a .mat file.
        window: two pixel values that become 0 and 255.
        colour: refuse coloured pictures, or warn.
        images: the pictures of a folder are one "stack", or each "single".
        expect_slices: number of B-scans every volume must have.
        slices_policy: refuse another number, or warn.
        laterality_policy: refuse a volume whose file contradicts the table on the side, or warn
            and leave the side unknown.
        subject_policy: refuse volumes whose files have one patient's id where table or pattern
            tell two subjects, or warn and keep what they tell.
        splits: how subjects are parted.
        workers: processes; default one a core. 1 runs in this process.
        overwrite: convert again what is already there.
        prune: remove volumes of an earlier run whose source is no longer there.
        salt: goes into the hash that stands for the patient's id of a file.
        progress: show a bar.

    Returns:
        The report; it was also written to `conversion_report.json`.

    Raises:
        FileNotFoundError: if the source or the table is missing.
        ValueError: for options or a table that make no sense.
        ConversionError: if the output holds another data set.
    """
    options = ReadOptions(
        spacing=_spacing(spacing),
        spacing_overrides=spacing_overrides,
        laterality=laterality,
        shape=shape,
        pad_width=pad_width,
        variable=variable,
        mask_variable=mask_variable,
        axes=axes,
        window=window,
        colour=colour,
    )
    root, output = Path(source), Path(output)
    table = Labels(labels) if labels is not None else None
    compiled = compile_pattern(pattern) if pattern is not None else None
    splits = splits or SplitOptions()
    check_stratify(splits.stratify, table.extra_columns if table is not None else ())
    found = find_sources(root, images=images, skip=[output])
    if table is not None:
        table.check_bare_names(item.relative for item in found.sources)
    base = Task(
        Source(root, "", "", ()),
        "",
        output,
        options,
        expect_slices,
        slices_policy,
        overwrite,
        salt,
    )
    sources, facts = _with_facts(found.sources, table, compiled)
    names = unique_names(sources, _plain_name)
    tasks = [
        replace(base, source=item, base_id=name) for item, name in zip(sources, names, strict=True)
    ]
    run = _Run(root, output, tasks, table)
    if found.ignored:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(found.ignored.items()))
        run.notes.append(f"files of other kinds passed over: {kinds}.")
    if not tasks:
        run.notes.append(f"no OCT file was found in {root.name or root}: the folder holds none.")
    _check_output(run, prune)
    _remove_leftovers(output)
    results, interrupted = run_all(tasks, workers or os.cpu_count() or 1, progress)
    rows, outcomes = assemble(
        results,
        facts,
        output,
        table.extra_columns if table is not None else (),
        laterality_policy=laterality_policy,
        subject_policy=subject_policy,
    )
    if not interrupted:
        if table is not None and table.unused():
            names = table.unused()
            run.notes.append(
                f"{table.path.name}: {len(names)} rows fit no source, first {names[0]!r}."
            )
        _finish(run, rows, splits)
    report = ConversionReport(tuple(outcomes), tuple(run.notes), interrupted, output)
    report.write(output / REPORT_NAME)
    return report


def _spacing(value: Any) -> Spacing:
    if value is None:
        return Spacing()
    if isinstance(value, str):
        return parse_spacing(value)
    if len(value) != 3:
        raise ValueError(f"spacing is {value!r}, expected (lateral, axial, between) in mm.")
    return Spacing(*value)


def _with_facts(
    sources: Sequence[Source], table: Labels | None, pattern: re.Pattern[str] | None
) -> tuple[list[Source], list[Facts]]:
    """Return what the user tells of each source; one in which the pattern finds nonsense fails.

    Raises:
        ValueError: if it does so in all of them: then the pattern is wrong.
    """
    checked: list[Source] = []
    facts: list[Facts] = []
    errors: list[ValueError] = []
    for source in sources:
        try:
            facts.append(told_facts(table, pattern, source.relative))
            checked.append(source)
        except ValueError as error:
            facts.append(Facts())
            checked.append(replace(source, fault=source.fault or str(error)))
            errors.append(error)
    if errors and len(errors) == len(sources):
        raise errors[0]
    return checked, facts


def _plain_name(source: Source) -> str:
    return volume_name(source.relative, folder=os.path.isdir(source.path))


def _check_output(run: _Run, prune: bool) -> None:
    """Refuse an output that holds volumes of other sources, or remove them on request."""
    manifest = run.output / MANIFEST_NAME
    if not manifest.exists():
        return
    there = {task.source.relative for task in run.tasks}
    foreign = [row for row in read_manifest(manifest) if row.source_file not in there]
    if not foreign:
        return
    if not prune:
        raise ConversionError(
            f"{manifest.name} in {run.output} lists {len(foreign)} volumes whose source is not in "
            f"{run.root.name or run.root}, first {foreign[0].source_file!r}. Choose another output "
            "folder, or give --prune to remove them."
        )
    for row in foreign:
        for folder in ("volumes", "masks"):
            (run.output / folder / f"{row.volume_id}.nii.gz").unlink(missing_ok=True)
        (run.output / RECORDS / f"{row.volume_id}.json").unlink(missing_ok=True)
    run.notes.append(f"{len(foreign)} volumes without a source removed.")


def _remove_leftovers(output: Path) -> None:
    """Remove the temporary files of a run that was killed."""
    for folder in ("volumes", "masks", RECORDS, "."):
        remove_left_overs(output / folder)


def _finish(run: _Run, rows: list[ManifestRow], options: SplitOptions) -> None:
    """Write manifest, splits and datalist; without a volume, remove those of an earlier run."""
    if not rows:
        old = [run.output / name for name in (MANIFEST_NAME, DATALIST_NAME)]
        old = [path for path in old if path.exists()]
        for path in old:
            path.unlink()
        if old:
            names = " and ".join(path.name for path in old)
            run.notes.append(f"no volume is left: {names} of the earlier run removed.")
        return
    write_manifest(run.output / MANIFEST_NAME, rows)
    splits = _splits(run, rows, options)
    datalist = make_datalist(
        rows, splits, has_mask=lambda name: (run.output / "masks" / f"{name}.nii.gz").exists()
    )
    write_datalist(run.output / DATALIST_NAME, datalist)
    left = len(datalist["unassigned"])
    if left:
        run.notes.append(
            f"{left} of {len(rows)} volumes are in no part (subject or label unknown, or subject "
            "new to the splits): they stand under 'unassigned' in the datalist."
        )


def _splits(run: _Run, rows: list[ManifestRow], options: SplitOptions) -> Splits | None:
    """Read the splits if they are there, else make them, if that can be done."""
    path = run.output / SPLITS_NAME
    if path.exists() and not options.renew:
        splits = read_splits(path)
        new = {r.subject for r in rows if r.subject and r.label is not None}
        new = {subject for subject in new if splits.part_of(subject) is None}
        if new:
            run.notes.append(
                f"{len(new)} subjects are not in {SPLITS_NAME}, which is written once: "
                "give --new-splits to part all subjects anew."
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
    write_splits(path, splits, overwrite=options.renew)
    return splits


__all__ = ["ConversionError", "ConversionReport", "Outcome", "SplitOptions", "convert_folder"]
