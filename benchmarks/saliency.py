"""Time and memory of every saliency method beside Captum's, Zennit's and pytorch-grad-cam's.

    python benchmarks/saliency.py
    python benchmarks/saliency.py --networks vgg11 --groups WBP GradCAM --check
    python benchmarks/saliency.py --no-time --json memory.json

Same network, batch and machine, one run, the packages in turn within each round. All maps of a
group are compared before anything is timed: in double precision, since rules that divide by sums
near 0 magnify the rounding of single precision. Packages that are not installed are left out:
pip install 'ppi_med[explain]'.

Nobody else has WBP. On these networks, in evaluation mode, it equals the gradient times the input
and LRP's epsilon rule with a small epsilon, so the fastest of these two is what it is held to.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _saliency_maps import (  # noqa: E402
    OURS,
    SUBJECTS,
    Make,
    Map,
    comparable,
    difference,
    groups,
)
from _timing import (  # noqa: E402
    CLOCKS,
    hardware_line,
    interleaved,
    median_ms,
    peak_memory,
    ratio,
    table,
    write_json,
)

LIMIT = 1.05
HELD = ("WBP", "gradient", "GradCAM", "LRP epsilon", "LRP epsilon plus flat")
TOLERANCE = 1e-4
# The epsilon rule is WBP but for its epsilon, and Captum's epsilon is another one in pooling;
# SmoothGrad's noise, 1e-7 of the image, is drawn by each for itself.
OTHERS = {
    ("WBP", "zennit Epsilon"): 1e-2,
    ("LRP epsilon", "captum LRP"): 1e-3,
    ("SmoothGrad", "captum NoiseTunnel"): 0.1,
}
_MODULES = {"captum": "captum", "zennit": "zennit", "grad-cam": "pytorch_grad_cam"}


def installed(library: str) -> bool:
    """Say whether a piece of work can run here."""
    module = _MODULES.get(library.split()[0])
    return module is None or importlib.util.find_spec(module) is not None


def works(name: str, group: str, batch: int | None, *, double: bool = False) -> dict[str, Map]:
    """Return the pieces of work of a group that can run here, each with its own network."""
    made: dict[str, Make] = groups(SUBJECTS[name])[group]
    scene = SUBJECTS[name].scene(batch)
    scene = scene.double() if double else scene
    return {key: make(scene.apart()) for key, make in made.items() if installed(key)}


def one_work(name: str, group: str, library: str, batch: int | None) -> Map:
    """Return one piece of work, for a process of its own."""
    return groups(SUBJECTS[name])[group][library](SUBJECTS[name].scene(batch))


def check_outputs(group: str, found: dict[str, Map]) -> dict[str, float]:
    """Compare the maps of a group.

    Returns:
        Relative distance to ours, by library.

    Raises:
        SystemExit: where one differs.
    """
    maps = {key: comparable(group, key, work()) for key, work in found.items()}
    apart = {key: difference(values, maps[OURS]) for key, values in maps.items() if key != OURS}
    for key, value in apart.items():
        limit = OTHERS.get((group, key), TOLERANCE)
        if not value <= limit:
            raise SystemExit(f"{group}: the map of {key} differs from ours by {value:.1e}")
    return apart


def measure(name: str, group: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check a group's maps, then time them and measure their memory; ours comes first."""
    apart = check_outputs(group, works(name, group, options.batch, double=True))
    found = works(name, group, options.batch)
    batch = options.batch or SUBJECTS[name].batch
    records = [
        {"network": name, "group": group, "library": key, "batch": batch, "apart": apart.get(key)}
        for key in found
    ]
    if options.time:
        seconds = interleaved(
            found, rounds=options.rounds, warmup=options.warmup, clock=options.clock
        )
        for record in records:
            key = record["library"]
            record["ms_per_image"] = median_ms(seconds[key]) / batch
            record["ours_by_it"] = ratio(seconds, OURS, key)
    if options.memory:
        for record in records:
            grown = [
                peak_memory(one_work, name, group, record["library"], options.batch)
                for _ in range(options.memory_rounds)
            ]
            record["peak_mib_per_image"] = statistics.median(grown) / batch
    return records


def against_fastest(records: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[float, str]]:
    """Return (network, group) -> our time by the fastest other package's, and its name."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for record in records:
        if record["library"] == OURS or "ours_by_it" not in record:
            continue
        key, value = (record["network"], record["group"]), record["ours_by_it"]
        if key not in found or value > found[key][0]:
            found[key] = (value, record["library"])
    return found


def shown(value: object) -> str:
    """Write a figure for the table."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


COLUMNS = {
    "network": "network",
    "group": "map",
    "library": "package",
    "ms_per_image": "ms an image",
    "ours_by_it": "ours / it",
    "peak_mib_per_image": "peak MiB an image",
    "apart": "relative distance of the maps",
}


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everything = list(groups(next(iter(SUBJECTS.values()))))
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--groups", nargs="+", choices=everything, default=everything)
    parser.add_argument("--batch", type=int, help="images a batch (default: by network)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--warmup", type=int, default=2, help="rounds before them (default 2)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: processor time, for a machine that is busy with other work",
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--memory-rounds", type=int, default=1, help="processes a figure")
    parser.add_argument("--no-time", dest="time", action="store_false")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"exit 1 where WBP, gradient, LRP or GradCAM is above {LIMIT} x the fastest other",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    records: list[dict[str, Any]] = []
    for name in options.networks:
        for group in options.groups:
            records += measure(name, group, options)
            print(f"{name}: {group}", file=sys.stderr)
            if options.json:  # a run that is stopped leaves what it has measured
                content = {"limit": LIMIT, "clock": options.clock, "records": records}
                write_json(options.json, content)
    columns = {key: title for key, title in COLUMNS.items() if key in records[0]}
    print(f"Maps, {options.clock} time ({hardware_line()})\n")
    rows = [[shown(record.get(key)) for key in columns] for record in records]
    print(table(list(columns.values()), rows))
    above = False
    for (name, group), (value, library) in against_fastest(records).items():
        if group in HELD:
            print(f"{name}, {group}: {value:.3f} x {library}, the fastest other")
            above = above or value > LIMIT
    return 1 if options.check and above else 0


if __name__ == "__main__":
    raise SystemExit(main())
