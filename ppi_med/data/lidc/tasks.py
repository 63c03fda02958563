"""From the headers of a tree to one task a scan; what is passed over is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppi_med.data.dicom.header import Header
from ppi_med.data.dicom.pseudonyms import known_or_token
from ppi_med.data.dicom.store import HeaderStore, SeriesFiles
from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.dicom.verdict import Verdict, judge
from ppi_med.data.lidc.annotations import AnnotationDatabase, Scan
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
        """Yield a task for each series of LIDC; say what is left out."""
        claims: dict[str, list[tuple[str, str, str]]] = {}
        others = 0
        for key in headers.series_keys():
            if self.database.scan(key[2]) is None:
                others += 1
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
            result.notes.append(f"{others} series are not in LIDC's annotations: left out.")
        if not claims:
            result.notes.append("no series of LIDC-IDRI was found in the tree.")


def _own(
    scan: Scan, keys: Sequence[tuple[str, str, str]], result: Extraction
) -> tuple[str, str, str] | None:
    """Return which of several patients' or studies' series of one UID is LIDC's; name the rest."""
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
    """Return why outlines cannot be laid over a series; gaps and odd steps do no harm to them."""
    wrong = [r.text for r in verdict.reasons if r.code in _WRONG_IN_CT]
    normal = verdict.stack.normal
    if not wrong and (normal is None or abs(abs(normal[2]) - 1) > 1e-3):
        wrong = ["the slices are not axial"]
    return f"{'; '.join(wrong)}: the outlines cannot be placed." if wrong else ""


def _slices(series: SeriesFiles) -> tuple[SliceFile, ...]:
    """Return the slices; sound copies of one are one, whose pixels are compared when it is read."""
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
