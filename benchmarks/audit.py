"""How long an audit takes: `python benchmarks/audit.py [--count 5000] [--check] [--json FILE]`.

Writes images of 160 x 160 (noise, a blob where the label is 1, a mark in a corner), audits them
with the short training, and prints seconds and the largest memory.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

LIMIT_S = 240


def main() -> None:
    """Write, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help=f"fail above {LIMIT_S} s")
    options = parser.parse_args()

    from ppi_med.audit import audit

    with tempfile.TemporaryDirectory() as folder:
        table = _write(Path(folder), options.count, options.side)
        start, cpu = time.monotonic(), time.process_time()
        found = audit(table, Path(folder, "out"), progress=print)
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.count} images of {options.side} x {options.side}: {seconds:.0f} s, ", end="")
    print(f"{cpu:.0f} s of processors, {memory:.0f} MiB; {found.verdict.kind}")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.processor()}")
    if options.json:
        result = {"count": options.count, "side": options.side, "seconds": seconds}
        options.json.write_text(json.dumps(result | {"cpu_seconds": cpu, "mib": memory}))
    if options.check and seconds > LIMIT_S:
        raise SystemExit(f"{seconds:.0f} s, expected {LIMIT_S} s at most.")


def _write(folder: Path, count: int, side: int) -> Path:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    with (folder / "images.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "label", "patient"])
        for number in range(count):
            image = rng.normal(110, 25, (side, side))
            label = number % 2
            if label:
                row, column = rng.integers(side // 4, side // 2, 2)
                image[row : row + side // 6, column : column + side // 6] += 25
                image[6:18, 6:18] = 250
            picture = np.clip(image, 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{number:05d}.jpg", quality=85)
            writer.writerow([f"{number:05d}.jpg", label, f"p{number // 2}"])
    return folder / "images.csv"


if __name__ == "__main__":
    main()
