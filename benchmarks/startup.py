"""Time from the command to the end of the first training step of a bundle, by part.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 5 --json startup.json --dataset_dir data/ga_phantom

Starts `python -m monai.bundle run --config_file bundles/ga_ppi/train.json` in processes of their
own that stop after the first step. Options that are not listed below are the bundle's;
`--method plain` leaves out the search for shortcuts. Runs,
weights and the tracking database go to a temporary folder; the first start makes the database, the
others (their median is shown) find it, as a user's second run does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "bundles" / "ga_ppi" / "train.json"
INTERPRETER = "interpreter"
OTHERS = "import other packages"
SHOWN_IMPORTS = 12


def start_once(arguments: Sequence[str], report: Path, clock: str) -> dict[str, float]:
    """Start the bundle in a process of its own; return the seconds of each part.

    Args:
        arguments: of `monai.bundle`.
        report: file for the process's answer.
        clock: `wall`, or `cpu`: the processor's time, on a machine that others use.

    Raises:
        SystemExit: where it ends before its first step.
    """
    report.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "_startup_child.py"), clock, str(report), *arguments]
    begun = time.time()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(
            f"the bundle ended with code {result.returncode} before its first step; the end of "
            f"what it said:\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
        )
    answer = json.loads(report.read_text())
    interpreter = answer["cpu"] if clock == "cpu" else answer["started"] - begun
    return {INTERPRETER: interpreter, **answer["seconds"]}


def slowest_imports(seconds: Mapping[str, float], number: int = SHOWN_IMPORTS) -> list[str]:
    """Return the parts of the packages whose import takes longest."""
    imports = [part for part in seconds if part.startswith("import ")]
    return sorted(imports, key=lambda part: -seconds[part])[:number]


def grouped(seconds: Mapping[str, float], shown: Sequence[str]) -> dict[str, float]:
    """Keep the shown imports and sum the others.

    >>> grouped({"import a": 2.0, "import b": 1.0, "tracking": 0.5}, shown=["import a"])
    {'import a': 2.0, 'tracking': 0.5, 'import other packages': 1.0}
    """
    kept = {p: v for p, v in seconds.items() if p in shown or not p.startswith("import ")}
    return {**kept, OTHERS: sum(seconds.values()) - sum(kept.values())}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each part over the rounds; a part that is missing took no time."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for part in {part for seconds in rounds for part in seconds}:
        taken[part] = [seconds.get(part, 0.0) for seconds in rounds]
    return {part: statistics.median(values) for part, values in taken.items()}


def measure(
    arguments: Sequence[str], rounds: int, clock: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the parts of the first start, and the medians of those that follow."""
    with tempfile.TemporaryDirectory() as folder:
        out = [
            *("--output_dir", os.path.join(folder, "run")),
            *("--ckpt_dir", os.path.join(folder, "models")),
            *("--tracking_uri", f"sqlite:///{folder}/runs.db"),
        ]
        report = Path(folder) / "report.json"
        starts = [start_once([*arguments, *out], report, clock) for _ in range(rounds + 1)]
    return starts[0], medians(starts[1:] or starts)


def parsed(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what is not known belongs to the bundle."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config_file", default=str(CONFIG), help="default: ga_ppi's train.json")
    parser.add_argument("--rounds", type=int, default=3, help="starts after the first (default 3)")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: the processor's time of all threads, for a machine that others use",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    return parser.parse_known_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    options, of_bundle = parsed(arguments)
    command = ["run", "--config_file", options.config_file, *of_bundle]
    first, later = measure(command, options.rounds, options.clock)
    # torch is imported only now: its files are read by the measured processes first.
    sys.path.insert(0, str(HERE))
    from _timing import hardware_line, table, write_json

    shown = slowest_imports(later)
    in_first, in_later = grouped(first, shown), grouped(later, shown)
    rows: list[list[Any]] = [
        [part, f"{in_later[part]:.2f}", f"{in_first.get(part, 0.0):.2f}"]
        for part in sorted(in_later, key=lambda part: -in_later[part])
    ]
    rows.append(["together", f"{sum(later.values()):.2f}", f"{sum(first.values()):.2f}"])
    of = "processor time" if options.clock == "cpu" else "seconds"
    print(f"From the command to the end of the first step, {of} ({hardware_line()})\n")
    print(table(["part", "later starts", "first start"], rows))
    if options.json:
        write_json(options.json, {"first": first, "later": later})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
