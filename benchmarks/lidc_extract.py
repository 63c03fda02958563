"""LIDC patch extraction: beside reading through pylidc, and by processes and on a Dask cluster.

    python benchmarks/lidc_extract.py --dicom lidc_dicom/LIDC-IDRI-0001
    python benchmarks/lidc_extract.py --series 60 --check

Part `pylidc`: one complete series of LIDC-IDRI. pylidc reads the volume (`Scan.to_volume`), groups
the annotations and gives the patches in memory; the extraction also indexes the tree, compresses
and writes Zarr, manifest, datalist and report. HU and union masks of all patches are compared
before a time is shown. Part `throughput`: a LIDC phantom tree; series a second with one process,
two, and a local Dask cluster of two; the main process's memory for growing trees; and whether
every output, that of a run killed twice (kill -9) included, has the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from _lidc_extract_child import DASK, patch_key  # noqa: E402
from _timing import hardware_line, table, write_json  # noqa: E402

FASTER = 8.0
"""How many times as fast as pylidc the extraction must be."""

GROWTH = 1.05
"""How much larger the main process may be for four times as many series."""

PARTS = ("pylidc", "throughput")
RUNS = {"1 process": ("serial", 1), "2 processes": ("processes", 2), "Dask, 2 workers": (DASK, 2)}


def child(kind: str, tree: Path, out: Path, *how: object) -> dict[str, Any]:
    """Run one piece in a process of its own.

    Raises:
        SystemExit: where it fails.
    """
    answer = out.with_name(out.name + ".json")
    done = subprocess.run(command(kind, tree, out, answer, *how), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{kind} on {tree.name} failed:\n{done.stderr[-3000:]}")
    content: dict[str, Any] = json.loads(answer.read_text())
    return content


def command(kind: str, tree: Path, out: Path, answer: Path, *how: object) -> list[str]:
    """Return the command of a piece."""
    words = [kind, tree, out, answer, *how]
    return [sys.executable, str(HERE / "_lidc_extract_child.py"), *(str(word) for word in words)]


def digest(folder: Path) -> str:
    """Return one hash of all names and bytes below a folder."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def our_patches(output: Path) -> dict[str, Any]:
    """Return HU and union mask of every patch, named as the child names pylidc's."""
    from ppi_med.data.lidc.zarr_store import read_patch

    patches = {}
    for path in (output / "scans").glob("*.json"):
        record = json.loads(path.read_text())
        for number, row in enumerate(record["rows"]):
            arrays = read_patch(str(output / "patches.zarr"), record["group"], number)
            key = patch_key(row["z_mm"], row["annotation_ids"])
            patches[f"{key}:hu"], patches[f"{key}:union"] = arrays["hu"], arrays["union"]
    return patches


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return what the two sets of patches do not share, as sentences."""
    found = [f"only one has {key}" for key in sorted(set(ours) ^ set(theirs))]
    both = sorted(set(ours) & set(theirs))
    return found + [f"{key} differs" for key in both if not np.array_equal(ours[key], theirs[key])]


def beside_pylidc(tree: Path, rounds: int, work: Path) -> dict[str, Any]:
    """Time both in turn on a complete series, the patches compared first.

    Raises:
        SystemExit: where the patches differ.
    """
    seconds: dict[str, list[float]] = {"pylidc": [], "ours": []}
    facts: dict[str, Any] = {}
    for number in range(rounds):
        theirs, ours = work / f"pylidc{number}.npz", work / f"ours{number}"
        read = child("pylidc", tree, theirs)
        facts = child("ours", tree, ours, "serial", 1)
        if number == 0:
            wrong = differences(our_patches(ours), np.load(theirs))
            if wrong or not facts["patches"]:
                raise SystemExit(f"the patches are not pylidc's: {'; '.join(wrong[:3]) or 'none'}")
        seconds["pylidc"].append(read["seconds"])
        seconds["ours"].append(facts["seconds"])
    pairs = zip(seconds["pylidc"], seconds["ours"], strict=True)
    return {
        "patches": facts["patches"],
        "files": sum(1 for _ in tree.rglob("*.dcm")),
        "opened": facts["opened"],
        "pylidc_s": statistics.median(seconds["pylidc"]),
        "ours_s": statistics.median(seconds["ours"]),
        "faster": statistics.median(a / b for a, b in pairs),
    }


def phantom(folder: Path, series: int) -> Path:
    """Write the DICOM tree of a LIDC phantom."""
    from ppi_med.phantoms.ct.lidc import DICOM, write_dicom
    from ppi_med.phantoms.ct.spec import LidcPhantomSpec

    write_dicom(LidcPhantomSpec(count=series), folder, workers=2, progress=True)
    return folder / DICOM


def part_of_tree(tree: Path, patients: int, folder: Path) -> Path:
    """Return a tree with the largest patients of another, by hard links.

    The largest first: what is compared then is the number of series, not their size.
    """
    by_size = sorted(tree.iterdir(), key=lambda p: (-len(list(p.rglob("*.dcm"))), p.name))
    for patient in by_size[:patients]:
        shutil.copytree(patient, folder / patient.name, copy_function=os.link)
    return folder


def killed(tree: Path, out: Path, at: int) -> None:
    """Start an extraction with two processes and kill it once so many scans are done."""
    process = subprocess.Popen(
        command("ours", tree, out, out.with_suffix(".json"), "processes", 2),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while done_scans(out) < at:
            if process.poll() is not None:
                said = process.communicate()[1][-3000:]
                raise SystemExit(f"the extraction ended before it could be killed\n{said}")
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def done_scans(out: Path) -> int:
    """Return how many scans of an extraction have their record."""
    return len(list((out / "scans").glob("*.json")))


def throughput(tree: Path, series: int, work: Path) -> dict[str, Any]:
    """Time the ways to run, compare their bytes and those of a run that was killed twice."""
    runs, digests = [], {}
    for name, how in RUNS.items():
        facts = child("ours", tree, work / how[0], *how)
        digests[name] = digest(work / how[0])
        runs.append({"run": name, "series_per_s": facts["scans"] / facts["seconds"], **facts})
    out = work / "killed"
    for share in (0.25, 0.5):
        killed(tree, out, max(round(share * series), done_scans(out) + 1))
    child("ours", tree, out, "processes", 2)
    digests["killed twice"] = digest(out)
    return {
        "series": series,
        "runs": runs,
        "memory": memory(tree, series, work),
        "same_bytes": len(set(digests.values())) == 1,
        "digests": digests,
    }


def memory(tree: Path, series: int, work: Path) -> list[dict[str, Any]]:
    """Return the main process's peak for a quarter, a half and all of the series."""
    found = []
    for part in (series // 4, series // 2, series):
        small = part_of_tree(tree, part, work / f"tree{part}")
        facts = child("ours", small, work / f"memory{part}", "serial", 1)
        found.append({"series": facts["scans"], "peak_mib": facts["peak_mib"]})
    return found


def verdicts(record: Mapping[str, Any]) -> list[str]:
    """Return what misses its bar, as sentences."""
    missed = []
    if "pylidc" in record and record["pylidc"]["faster"] < FASTER:
        missed.append(f"{record['pylidc']['faster']:.1f} x as fast as pylidc, below {FASTER:g}")
    if "throughput" in record:
        found = record["throughput"]
        if not found["same_bytes"]:
            missed.append("the outputs differ in their bytes")
        first, last = (found["memory"][k]["peak_mib"] for k in (0, -1))
        if last > GROWTH * first:
            missed.append(f"memory grows with the series: {first:.0f} to {last:.0f} MiB")
        failed = [run for run in found["runs"] if run["failures"]]
        missed += [f"{run['run']}: {run['failures']} failures" for run in failed]
    return missed


def shown(record: Mapping[str, Any]) -> str:
    """Return the figures as tables."""
    parts = []
    if "pylidc" in record:
        p = record["pylidc"]
        row = [p["patches"], f"{p['opened']} of {p['files']}", f"{p['pylidc_s']:.2f}"]
        row += [f"{p['ours_s']:.2f}", f"{p['faster']:.1f}"]
        columns = ["patches", "files opened for pixels", "pylidc s", "ppi_med s", "times as fast"]
        parts.append(table(columns, [row]))
    if "throughput" in record:
        found = record["throughput"]
        rows = [
            [r["run"], r["scans"], r["patches"], f"{r['seconds']:.1f}", f"{r['series_per_s']:.1f}"]
            for r in found["runs"]
        ]
        parts.append(table(["run", "series", "patches", "s", "series / s"], rows))
        rows = [[m["series"], f"{m['peak_mib']:.0f}"] for m in found["memory"]]
        parts.append(table(["series", "peak MiB"], rows))
        same = "the same bytes" if found["same_bytes"] else "DIFFERENT bytes"
        parts.append(f"{', '.join(found['digests'])}: {same}.")
    return "\n\n".join(parts)


def default_tree() -> Path | None:
    """Return the tree of LIDC-IDRI-0001 beside the tests' data, if it is there."""
    data = os.environ.get("PPI_MED_DATA")
    tree = Path(data) / "lidc_dicom" / "LIDC-IDRI-0001" if data else None
    return tree if tree is not None and tree.is_dir() else None


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--dicom",
        type=Path,
        metavar="DIR",
        default=default_tree(),
        help="patient's folder of one complete LIDC-IDRI series, named as the patient",
    )
    parser.add_argument("--series", type=int, default=60, help="of the phantom (default 60)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs with pylidc (default 5)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--check", action="store_true", help="exit 1 where a bar is missed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and return the exit code."""
    options = parsed(arguments)
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if "pylidc" in options.parts and options.dicom is None:
            print("part pylidc is left out: give --dicom DIR", file=sys.stderr)
        elif "pylidc" in options.parts:
            record["pylidc"] = beside_pylidc(options.dicom, options.rounds, work)
        if "throughput" in options.parts:
            tree = phantom(work / "phantom", options.series)
            record["throughput"] = throughput(tree, options.series, work)
    missed = verdicts(record)
    print(f"LIDC patch extraction ({hardware_line()})\n")
    print(shown(record))
    for line in missed:
        print(f"missed: {line}")
    if options.json:
        write_json(options.json, {"faster": FASTER, "growth": GROWTH, **record})
    return 1 if options.check and (missed or not record) else 0


if __name__ == "__main__":
    raise SystemExit(main())
