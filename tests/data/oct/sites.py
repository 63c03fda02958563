"""OCT volumes of two sites on disk, and their conversion in this process."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from ppi_med.data.oct.assemble import ConversionReport
from ppi_med.data.oct.convert import convert_folder
from ppi_med.data.oct.options import ConvertOptions
from tests.data.oct import writers


def make_sites(folder: Path, subjects: int = 12) -> Path:
    """Two sites, an eye a subject, two visits each, labels.csv beside them."""
    rows = []
    for number in range(subjects):
        site = ("north", "south")[number % 2]
        eye = ("OD", "OS")[number // 2 % 2]
        for visit in ("v1", "v2"):
            name = f"{site}/p{number:02d}_{eye}_{visit}.mat"
            (folder / site).mkdir(parents=True, exist_ok=True)
            pixels = writers.volume((4, 10, 8), seed=2 * number + (visit == "v2"))
            lesion = (pixels > 200).astype(np.uint8).transpose(1, 2, 0)
            writers.write_mat(folder / name, pixels, lesion=lesion)
            rows.append([name, f"p{number:02d}", eye, visit, site, number // 2 % 2, "yes"])
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "subject", "eye", "visit", "site", "label", "artefact"])
        writer.writerows(rows)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def convert(source: Path, output: Path, **options) -> ConversionReport:
    known = {"workers": 1, "progress": False} | options
    return convert_folder(ConvertOptions.of(source, output, **known))
