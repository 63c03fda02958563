"""One scan from plan to Zarr: the worker's function, and its record for a second run."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppi_med.data.dicom.pixels import PixelError, read_slice
from ppi_med.data.dicom.pseudonyms import dicom_uid
from ppi_med.data.dicom.values import PADDING
from ppi_med.data.lidc.annotations import RATINGS, Nodule, Scan, find_nodules, open_database
from ppi_med.data.lidc.cut import Patch, cut_patch, slice_hu
from ppi_med.data.lidc.plan import NOT_HERE, PatchOptions, Plan, SliceFile, Wanted, make_plan
from ppi_med.data.lidc.zarr_store import group_sizes, remove_group, write_patches
from ppi_med.io import write_json

NOTHING_THERE = "nothing was scanned where the readers drew"


@dataclass(frozen=True)
class SeriesFacts:
    """Facts from a series' headers, the same for all its slices.

    Attributes:
        manufacturer: the site.
        model: model of the scanner.
        kernel: kernel of the reconstruction.
        contrast: whether there is a contrast tag.
        spacing: mm between rows, between columns.
        step_mm: between slices.
    """

    manufacturer: str
    model: str
    kernel: str
    contrast: bool
    spacing: tuple[float, float]
    step_mm: float | None


@dataclass(frozen=True)
class ScanTask:
    """The input of a worker."""

    base: Path
    series_uid: str
    slices: tuple[SliceFile, ...]
    facts: SeriesFacts
    records: Path
    store: str
    database: Path
    options: PatchOptions
    overwrite: bool = False

    @property
    def record_path(self) -> Path:
        """Path of this scan's record."""
        return self.records / f"{self.series_uid}.json"

    @property
    def input_hash(self) -> str:
        """Hash of the files' names, sizes and times, of the facts and of the options."""
        files = sorted(
            (file.name, file.size, file.stamp, s.z_mm)
            for s in self.slices
            for file in (s.file, *s.copies)
        )
        text = json.dumps([files, asdict(self.facts), self.options.hash])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class ScanRecord:
    """The outcome of a scan; kept as JSON, written last.

    Attributes:
        series_uid: UID of the scan.
        status: "ok", "kept" (done by an earlier run) or "failed".
        patient: public pseudonym of LIDC.
        group: in the Zarr, "" without patches.
        rows: one per patch.
        failures: nodule ("" for the scan), position in mm or `None`, reason.
        slices_here: files of the series.
        slices_in_database: slices the series has.
        contours: contours on the slices that exist.
        contour_slices: slices that carry a contour.
        opened: files opened for their pixels.
        nodules: clusters of the scan.
        over_four: ids of clusters with more than four annotations.
        input_hash: see `ScanTask`.
        sizes: files of the group and their bytes.
    """

    series_uid: str
    status: Literal["ok", "kept", "failed"] = "ok"
    patient: str = ""
    group: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    slices_here: int = 0
    slices_in_database: int = 0
    contours: int = 0
    contour_slices: int = 0
    opened: int = 0
    nodules: int = 0
    over_four: list[str] = field(default_factory=list)
    input_hash: str = ""
    sizes: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str, nodule: str = "", z_mm: float | None = None) -> None:
        """Add a failure."""
        self.failures.append({"nodule": nodule, "z_mm": z_mm, "reason": reason})


def extract_scan(task: ScanTask) -> ScanRecord:
    """Cut all patches of a scan and write them; never raises because of the files' content.

    The record is written last: after a kill exactly the scans without a record are repeated.
    """
    try:
        kept = None if task.overwrite else read_record(task)
        if kept is not None:
            return kept
        task.record_path.unlink(missing_ok=True)
        return _extract(task)
    except MemoryError:
        reason = "not enough memory."
    except OSError as error:
        reason = f"{type(error).__name__}: {error.strerror or 'cannot be read or written'}."
    except Exception as error:  # a fault of one scan must not end the run: it is reported by name
        # Not its message, which may quote a header.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        reason = f"unexpected {type(error).__name__} in {where} (please report it)."
    failed = ScanRecord(task.series_uid, "failed", slices_here=len(task.slices))
    failed.fail(reason)
    return failed


def scan_died(task: ScanTask) -> ScanRecord:
    """Return the record of a scan whose process died."""
    record = ScanRecord(task.series_uid, "failed", slices_here=len(task.slices))
    record.fail("the process that read it died (out of memory, or a damaged file).")
    return record


def read_record(task: ScanTask) -> ScanRecord | None:
    """Return an earlier run's record of this scan, if it is still valid."""
    try:
        record = ScanRecord(**json.loads(task.record_path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # no complete record: cut again
    if record.input_hash != task.input_hash:
        return None
    if any(failure["reason"] != NOT_HERE for failure in record.failures):
        return None  # a decoder may have been installed since
    if record.group and group_sizes(task.store, record.group) != record.sizes:
        return None
    record.status = "kept"
    return record


def load_record(path: Path) -> ScanRecord:
    """Read a record."""
    return ScanRecord(**json.loads(path.read_text(encoding="utf-8")))


def _extract(task: ScanTask) -> ScanRecord:
    database = open_database(task.database)
    scan = database.scan(task.series_uid)
    if scan is None:
        raise ValueError("the annotation database does not know the series")
    nodules = find_nodules(scan, database.annotations(scan))
    plan = make_plan(scan, nodules, task.slices, task.options)
    record = ScanRecord(task.series_uid, patient=scan.patient_id, input_hash=task.input_hash)
    record.slices_here = len({s.z_mm for s in task.slices})
    record.slices_in_database = len(scan.z_mm)
    record.contours, record.contour_slices = plan.contours, plan.contour_slices
    record.nodules = len(nodules)
    record.over_four = [nodule.nodule_id for nodule in nodules if nodule.over_four]
    for nodule_id, z_mm, reason in plan.missing:
        record.fail(reason, nodule_id, z_mm)
    patches = _cut_all(task, scan, plan, record)
    patches.sort(key=lambda pair: pair[1]["patch_id"])
    group = f"{scan.patient_id}_s{scan.scan_id:04}"
    if patches:
        record.group = group
        record.rows = [row for _, row in patches]
        write_patches(task.store, group, [patch for patch, _ in patches], record.rows)
        record.sizes = group_sizes(task.store, group)
    else:
        remove_group(task.store, group)
    write_json(task.record_path, asdict(record))
    return record


def _cut_all(
    task: ScanTask, scan: Scan, plan: Plan, record: ScanRecord
) -> list[tuple[Patch, dict[str, Any]]]:
    """Open each planned file once and cut its patches."""
    patches: list[tuple[Patch, dict[str, Any]]] = []
    for file, wanted in plan.by_slice:
        record.opened += 1
        try:
            found = read_slice(task.base, file.file)
            hu = slice_hu(found)
            for copy in file.copies:
                if not np.array_equal(slice_hu(read_slice(task.base, copy)), hu):
                    raise ValueError(f"{1 + len(file.copies)} files of this slice differ")
        except (PixelError, ValueError) as error:
            reason = error.reason if isinstance(error, PixelError) else str(error)
            for item in wanted:
                record.fail(reason, item.nodule.nodule_id, item.z_mm)
            continue
        for item in wanted:
            patch = cut_patch(hu, task.facts.spacing, item, task.options)
            drawn = patch.hu[patch.union > 0]
            if 2 * np.count_nonzero(drawn == PADDING) > drawn.size:
                record.fail(NOTHING_THERE, item.nodule.nodule_id, item.z_mm)
                continue
            patches.append((patch, _row(task, scan, file, found.sha256, item, patch)))
    return patches


def _row(
    task: ScanTask, scan: Scan, file: SliceFile, sha256: str, wanted: Wanted, patch: Patch
) -> dict[str, Any]:
    nodule, options, facts = wanted.nodule, task.options, task.facts
    spacing = facts.spacing if options.spacing_mm is None else (options.spacing_mm,) * 2
    return {
        "patch_id": f"{nodule.nodule_id}_z{wanted.z_mm:+09.3f}",
        "patient": scan.patient_id,
        "scan_id": scan.scan_id,
        "series_uid": scan.series_uid,
        "instance_uid": dicom_uid(file.instance),
        "nodule_id": nodule.nodule_id,
        "z_mm": wanted.z_mm,
        "row0": patch.origin[0],
        "column0": patch.origin[1],
        "spacing_row_mm": spacing[0],
        "spacing_column_mm": spacing[1],
        "slice_spacing_mm": facts.step_mm,
        "slice_thickness_mm": scan.slice_thickness,
        "native_spacing_mm": scan.pixel_spacing,
        "site": facts.manufacturer,
        "model": facts.model,
        "kernel": facts.kernel,
        "contrast": int(facts.contrast),
        "label": _label(nodule, options),
        "votes": len(nodule.readers),
        "votes_on_slice": int((patch.state == 2).sum()),
        "n_in_cluster": len(nodule.members),
        "cluster_over_four": int(nodule.over_four),
        "padding_slice": int(wanted.padding),
        "annotation_ids": [reader.annotation_id for reader in nodule.readers],
        "ratings": {name: [reader.ratings[name] for reader in nodule.readers] for name in RATINGS},
        "union_px": int(patch.union.sum()),
        "majority_px": int(patch.majority.sum()),
        "padding_px": patch.padding_px,
        # Never the path, which may name a person.
        "source_file": f"{scan.series_uid}/{dicom_uid(file.instance)}",
        "source_sha256": sha256,
    }


def _label(nodule: Nodule, options: PatchOptions) -> int | None:
    if nodule.over_four and options.over_four_label == "unknown":
        return None
    return int(len(nodule.readers) >= options.min_readers)


def mean_ratings(row: dict[str, Any]) -> dict[str, float]:
    """Return the mean of each rating over the readers."""
    ratings: dict[str, Sequence[int]] = row["ratings"]
    return {name: round(float(np.mean(values)), 4) for name, values in ratings.items()}
