"""Small folders of nodules in npz arrays, in the form of the published ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

SIZE = 31


def write_nodules(folder: Path, patients: int = 40, seed: int = 0) -> Path:
    """Two nodules a patient at two sites; those that three readers drew are larger."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    n = 2 * patients
    labels = np.arange(n) // 2 % 2
    rows, columns = np.indices((SIZE, SIZE)) - SIZE // 2
    radius = np.where(labels, 6.0, 3.0) + rng.uniform(0, 1.5, n)
    inside = np.hypot(rows, columns)[None] < radius[:, None, None]
    hu = np.where(inside, 20, -850) + rng.normal(0, 40, inside.shape)
    hu[:, :2] = -2000
    np.savez(folder / "images.npz", id=np.arange(n), hu=hu.astype(np.int16))
    np.savez(folder / "masks.npz", id=np.arange(n), reader_bits=(inside * 5).astype(np.uint8))
    table = [
        {"id": k, "patient_id": f"p{k // 2:02}", "manufacturer": "AB"[k // 4 % 2],
         "pixel_spacing_mm": 0.7, "n_readers": 3 if labels[k] else 2, "cluster_over_four": 0}
        for k in range(n)
    ]  # fmt: skip
    slots = [
        {"id": k, "slot": slot, "outlined_on_slice": int(slot in (1, 3))}
        for k in range(n)
        for slot in ((1, 2, 3) if labels[k] else (1, 3))
    ]
    for name, records in (("nodules.csv", table), ("annotations.csv", slots)):
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, records[0])
            writer.writeheader()
            writer.writerows(records)
    return folder
