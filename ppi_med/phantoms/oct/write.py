"""The OCT phantom on the disk: raw files like a clinic's, converted like them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.io import savemat

from ppi_med.data.splits import FILE_NAME as SPLITS_FILE
from ppi_med.data.splits import write_splits
from ppi_med.io import atomic_path, markdown_table, write_text
from ppi_med.parallel import run_tasks
from ppi_med.phantoms.base import PARAMETERS_FILE, phantom_folder, stream
from ppi_med.phantoms.oct.anatomy import draw_anatomy
from ppi_med.phantoms.oct.artefacts import burn_in
from ppi_med.phantoms.oct.grid import Grid, Size
from ppi_med.phantoms.oct.lesions import draw_atrophy, draw_findings
from ppi_med.phantoms.oct.render import Volume, render
from ppi_med.phantoms.oct.spec import LABEL_RULE, OctPhantomSpec, PlannedVolume, Site

if TYPE_CHECKING:
    from ppi_med.data.oct.assemble import ConversionReport

_HEADER = b"MATLAB 5.0 MAT-file, OCT phantom of ppi_med: not a patient"
_HEADER_LENGTH = 116


def write_duke_mat(path: str | Path, volume: Volume, *, age: float) -> None:
    """Write a volume as the GA study's files are, with the lesion mask beside it.

    Variables: `images` (depth, width, B-scans) uint8, `layerMaps` (B-scans, width, 3), `Age`, and
    `lesion` (like `images`, 0 or 1), which Duke's files have not.

    Args:
        path: the file; written atomically, folders are made.
        volume: what to write.
        age: age of the subject in years.
    """
    stream = io.BytesIO()
    variables = {
        "images": volume.images,
        "layerMaps": volume.layer_maps,
        "Age": float(age),
        "lesion": volume.lesion,
    }
    savemat(stream, variables, format="5", do_compression=True)
    # The library writes the date into the header; a phantom's bytes must not depend on it.
    stream.seek(0)
    stream.write(_HEADER.ljust(_HEADER_LENGTH))
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


@dataclass(frozen=True)
class SubjectJob:
    """What a worker needs to make the files of one subject."""

    site: Site
    visits: tuple[PlannedVolume, ...]
    size: Size
    seed: int
    folder: Path


def draw_volumes(
    site: Site, visits: tuple[PlannedVolume, ...], size: Size, seed: int
) -> Iterator[Volume]:
    """Draw the visits of one subject.

    The mark is burnt in last: two phantoms that differ in the agreement alone have the same eyes
    with the same noise.

    Yields:
        One volume a visit.
    """
    first = visits[0]
    grid = Grid.of(size, round(site.width * size.width))
    name = (site.name, first.subject)
    anatomy = draw_anatomy(stream(seed, *name, "anatomy"), grid, first.eye)
    atrophy = draw_atrophy(stream(seed, *name, "atrophy"), anatomy.fovea, float(grid.x[-1]))
    ages = [visit.age for visit in visits]
    found = draw_findings(stream(seed, *name, "findings"), grid, atrophy, ages)
    for visit, findings in zip(visits, found, strict=True):
        rng = stream(seed, *name, "visit", visit.visit)
        volume = render(rng, site, grid, anatomy, findings)
        if visit.artefact:
            where = stream(seed, *name, "artefact", visit.visit)
            burn_in(volume.images, site.artefact, where)
        yield volume


def write_subject(job: SubjectJob) -> list[str]:
    """Write the raw files of one subject and return their paths below the job's folder."""
    rng = stream(job.seed, job.site.name, job.visits[0].subject, "age")
    age = round(float(rng.uniform(60, 90)), 1)
    volumes = draw_volumes(job.site, job.visits, job.size, job.seed)
    for visit, volume in zip(job.visits, volumes, strict=True):
        write_duke_mat(job.folder / visit.file, volume, age=age + visit.visit)
    return [visit.file for visit in job.visits]


GENERATOR_VERSION = 1
"""Counted up whenever the same parameters would give other files."""

RAW = "raw"
LABELS_FILE = "labels.csv"
_MADE = (
    *(RAW, "volumes", "masks", ".conversion"),
    *(SPLITS_FILE, "manifest.csv", "datalist.json", "conversion_report.json", "README.md"),
)
LABEL_COLUMNS = (
    "file",
    "subject",
    "eye",
    "visit",
    "site",
    "label",
    "label_rule",
    "artefact",
)


def make_oct_phantom(
    spec: OctPhantomSpec,
    output: str | Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> ConversionReport:
    """Make a phantom and convert it to a data set, the way a clinic's files are.

    Args:
        spec: specification of the phantom.
        output: folder of the data set: `raw`, `volumes`, `masks`, manifest, datalist, splits.
        workers: processes; the data set does not depend on their number.
        overwrite: replace another phantom in the folder.
        progress: show bars.

    Returns:
        The converter's report.

    Raises:
        UsageError: if the folder holds a phantom with other parameters, or other files.
        RuntimeError: if a volume was not converted.
    """
    from ppi_med.data.oct.convert import convert_folder
    from ppi_med.data.oct.options import ConvertOptions

    output = Path(output)
    write_raw(spec, output, workers=workers, overwrite=overwrite, progress=progress)
    # The marks were dealt by these splits, so they are written before the converter makes its own.
    write_splits(output / SPLITS_FILE, spec.plan()[1])
    options = ConvertOptions.of(
        output / RAW,
        output,
        labels=output / RAW / LABELS_FILE,
        spacing=spec.size.spacing_mm,
        pad_width=spec.size.width,
        mask_variable="lesion",
        expect_slices=spec.size.slices,
        workers=workers,
        progress=progress,
    )
    report = convert_folder(options)
    done = report.count("ok", "kept")
    if done < len(report.outcomes) and not report.interrupted:
        first = next(o for o in report.outcomes if o.status not in ("ok", "kept"))
        raise RuntimeError(
            f"{done} of {len(report.outcomes)} volumes of the phantom were converted, expected "
            f"all; {first.source}: {first.reason or first.status}"
        )
    return report


def write_raw(
    spec: OctPhantomSpec,
    output: str | Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = False,
) -> list[PlannedVolume]:
    """Write the raw files of a phantom: `raw/<site>/<subject>_<eye>_<visit>.mat` and the labels.

    Files that are there already, of the same phantom, are kept: a run that was stopped goes on.

    Args:
        spec: specification of the phantom.
        output: folder of the data set.
        workers: processes; the files do not depend on their number.
        overwrite: replace another phantom in the folder.
        progress: show a bar.

    Returns:
        The volumes, in the order of the labels table.

    Raises:
        UsageError: if the folder holds a phantom with other parameters, or other files.
    """
    output = Path(output)
    volumes, _ = spec.plan()
    with phantom_folder(output, _content(spec), _MADE, overwrite) as kept:
        jobs = _jobs(spec, volumes, output / RAW, kept)
        done = run_tasks(write_subject, jobs, workers=max(1, min(workers, len(jobs))))
        for _ in _progress(done, len(jobs), progress):
            pass
        write_text(output / RAW / LABELS_FILE, _labels_table(volumes))
        write_text(output / "README.md", _readme(spec, volumes))
    return volumes


def _content(spec: OctPhantomSpec) -> dict[str, Any]:
    return {
        "phantom": "oct",
        "note": "Simulated volumes, not patients: figures from them must be labelled so.",
        "generator_version": GENERATOR_VERSION,
        "parameters": spec.parameters(),
    }


def _jobs(
    spec: OctPhantomSpec, volumes: Iterable[PlannedVolume], folder: Path, kept: bool
) -> list[SubjectJob]:
    visits: dict[str, list[PlannedVolume]] = {}
    for volume in volumes:
        visits.setdefault(volume.subject, []).append(volume)
    sites = {site.name: site for site in spec.sites}
    return [
        SubjectJob(sites[own[0].site], tuple(own), spec.size, spec.seed, folder)
        for own in visits.values()
        if not (kept and all((folder / volume.file).exists() for volume in own))
    ]


def _progress(results: Iterable[list[str]], total: int, shown: bool) -> Iterable[list[str]]:
    if not shown:
        return results
    from tqdm import tqdm

    bar: Iterable[list[str]] = tqdm(results, total=total, desc="phantom", unit="subject")
    return bar


def _labels_table(volumes: Iterable[PlannedVolume]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(LABEL_COLUMNS)
    for v in volumes:
        visit = f"v{v.visit + 1}"
        writer.writerow(
            (v.file, v.subject, v.eye, visit, v.site, v.label, LABEL_RULE, int(v.artefact))
        )
    return stream.getvalue()


def _readme(spec: OctPhantomSpec, volumes: Sequence[PlannedVolume]) -> str:
    lines = [
        "# An OCT phantom",
        "",
        "Simulated volumes of eyes with and without geographic atrophy. No patient is shown here;",
        "label every figure that comes from them as a phantom's. All parameters are in",
        f"`{PARAMETERS_FILE}`, which volume carries its site's mark is in `{RAW}/{LABELS_FILE}`.",
        "",
    ]
    columns = ("site", "subjects", "volumes", "with GA", "with the mark", "mark")
    rows: list[tuple[object, ...]] = []
    for site in spec.sites:
        own = [v for v in volumes if v.site == site.name]
        marked = sum(v.artefact for v in own)
        true = sum(v.label for v in own)
        rows.append((site.name, spec.subjects, len(own), true, marked, site.artefact))
    return "\n".join(lines) + "\n" + markdown_table(columns, rows)
