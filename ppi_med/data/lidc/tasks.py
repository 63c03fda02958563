"""From the headers of a tree to one task a scan; what is passed over is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppi_med.data.dicom.store import HeaderStore, SeriesFiles
from ppi_med.data.dicom.verdict import judge
from ppi_med.data.lidc.annotations import AnnotationDatabase
from ppi_med.data.lidc.extraction import Extraction
from ppi_med.data.lidc.options import PatchOptions
from ppi_med.data.lidc.outputs import RECORDS
from ppi_med.data.lidc.plan import SliceFile
from ppi_med.data.lidc.scan_worker import ScanTask, SeriesFacts

_WRONG_IN_CT = {"no_geometry", "bad_orientation", "mixed_orientation", "mixed_size", "colour"}


@dataclass
class TaskMaker:
    """Makes the tasks of a tree: one for each series that LIDC's readers annotated.

    Attributes:
        base: root of the tree.
        output: the data set's folder.
        store: path or URL of the Zarr.
        database: the annotations.
        options: of the patches.
    """

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
                result.fail(scan.patient_id, text)
                continue
            seen.add(scan.series_uid)
            problem = _not_axial(series)
            if problem:
                result.fail(scan.patient_id, problem)
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
