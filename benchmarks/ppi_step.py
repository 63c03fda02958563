"""Cost of a PPI training step beside a plain step and a naive PPI, in one run on the same batch.

    python benchmarks/ppi_step.py
    python benchmarks/ppi_step.py --networks resnet18 --side 224 --rounds 9 --json cost.json
    python benchmarks/ppi_step.py --check

Every step is a whole step of MONAI's SupervisedTrainer with SGD, except the naive ones, which are
loops written by hand. Before anything is timed, loss and parameter gradients of the handler are
compared with the naive form in float64: once with BatchNorm in training, x* and x' in one batch as
the handler passes them; once with BatchNorm's statistics fixed, everything one sample at a time.

`naive` passes the clean image, its map, x* and x' in forwards of their own, one sample at a time;
`only maps one by one` does so for the map alone. Inception has no auxiliary head here: it needs
images of 299 pixels. `shared place` is PPI as the GA bundle trains, `multiview` as printed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _naive_ppi import NaivePPI  # noqa: E402
from _ppi_subjects import NAIVE, SCHEDULES, SUBJECTS, Setting  # noqa: E402
from _timing import (  # noqa: E402
    CLOCKS,
    Work,
    hardware_line,
    interleaved,
    median_ms,
    peak_memory,
    ratio,
    table,
    write_json,
)

CHECKED_NETWORKS = ("resnet18", "inception_v3")
LIMITS = {"differentiable": 4.5, "stop-gradient": 3.6}
LEAST_GAIN = 3.0
TOLERANCE = 1e-6
WITH_MEMORY = ("plain", "differentiable", "stop-gradient", "one contrast", "naive")
DEFAULT = ["differentiable", "stop-gradient", "one contrast", "every 2nd"]


def check_outputs(setting: Setting) -> float:
    """Compare loss and gradients of the handler with the naive form; return the difference.

    Raises:
        SystemExit: where they differ.
    """
    worst = 0.0
    for fixed, naive in (
        (False, NaivePPI(joined=True)),
        (True, NaivePPI(alone="everything")),
    ):
        small = setting.in_double(batch=4, fixed_statistics=fixed)
        trainer = small.trainer([small.handler("differentiable")], lr=0.0)
        trainer.run()
        reference = small.trainer([]).network
        loss = small.naive_loss(naive, reference)
        loss.backward()
        pairs = [(gradients(trainer.network), gradients(reference))]
        pairs.append((trainer.state.output["loss"].detach(), loss.detach()))
        for got, expected in pairs:
            worst = max(worst, float((got - expected).norm() / expected.norm()))
    if not worst <= TOLERANCE:
        raise SystemExit(f"the handler's step differs from the naive one by {worst:.1e}")
    return worst


def gradients(network: nn.Module) -> Tensor:
    """Return all gradients as one vector; a parameter that the loss leaves out has zeros."""
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in network.parameters()
        ]
    )


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check the outputs of one network, then time it; return a record for each kind of step."""
    subject = SUBJECTS[name]
    side = options.side if name in CHECKED_NETWORKS else None
    setting = Setting.of(subject, batch=options.batch, side=side)
    # The naive form is PPI as printed: with the shared place there is nothing to compare with.
    difference = None if subject.shared_place else check_outputs(setting)
    works = {kind: setting.work(kind) for kind in ("plain", *options.schedules)}
    seconds = timed(works, options.rounds, warmup=1, clock=options.clock)
    beside = {} if subject.shared_place else timed_naive(setting, works, options)
    gain = {
        schedule: ratio(beside, kind, schedule)
        for kind, (schedule, naive) in NAIVE.items()
        if naive.alone == "everything" and kind in beside
    }
    records = []
    for kind in [*works, *(kind for kind in NAIVE if kind in beside)]:
        source = seconds if kind in works else beside
        record: dict[str, Any] = {
            "network": name,
            "image": "x".join(str(n) for n in setting.image.shape),
            "step": kind,
            "ms": median_ms(source[kind]),
            "to_plain": ratio(source, kind, "plain"),
            "gain": gain.get(kind),
            "difference": difference,
        }
        if options.memory and kind in WITH_MEMORY:
            record["peak_mib"] = peak_memory(one_work, name, kind, options.batch, side)
        records.append(record)
    return records


def timed(
    works: Mapping[str, Work], rounds: int, *, warmup: int, clock: str
) -> dict[str, list[float]]:
    """Return the seconds a step: those of a cycle of a schedule by its number of steps."""
    cycles = interleaved(works, rounds=rounds, warmup=warmup, clock=clock)
    steps = {kind: SCHEDULES[kind][2] if kind in SCHEDULES else 1 for kind in works}
    return {kind: [t / steps[kind] for t in times] for kind, times in cycles.items()}


def timed_naive(
    setting: Setting, works: Mapping[str, Work], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Time the naive forms of the schedules that are measured, beside those and the plain step."""
    if options.naive_rounds == 0:
        return {}
    naive = {k: setting.work(k) for k, (schedule, _) in NAIVE.items() if schedule in works}
    partners = {NAIVE[kind][0] for kind in naive}
    beside = {kind: work for kind, work in works.items() if kind == "plain" or kind in partners}
    return timed({**beside, **naive}, options.naive_rounds, warmup=0, clock=options.clock)


def one_work(name: str, kind: str, batch: int | None, side: int | None) -> Work:
    """Return one kind of step, for a process of its own."""
    return Setting.of(SUBJECTS[name], batch=batch, side=side).work(kind)


def failures(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each figure of the checked networks beyond its limit."""
    lines = []
    for record in records:
        limit = LIMITS.get(record["step"])
        if record["network"] not in CHECKED_NETWORKS or limit is None:
            continue
        what = f"{record['network']}, {record['step']}"
        if record["to_plain"] > limit:
            lines.append(f"{what}: {record['to_plain']:.2f} x plain, above {limit}")
        if record["gain"] is not None and record["gain"] < LEAST_GAIN:
            lines.append(f"{what}: naive / PPI is {record['gain']:.2f}, below {LEAST_GAIN}")
    return lines


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--schedules", nargs="+", choices=list(SCHEDULES), default=DEFAULT)
    parser.add_argument("--batch", type=int, help="images a batch (default 16)")
    parser.add_argument("--side", type=int, help="side of the images of resnet18, inception_v3")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--naive-rounds", type=int, default=2, help="default 2; 0: no naive step")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument(
        "--clock",
        choices=sorted(CLOCKS),
        default="wall",
        help="cpu: this process's own time, for a machine that others use too (with --threads 1)",
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--check", action="store_true", help="exit 1 beyond a limit")
    return parser.parse_args(arguments)


COLUMNS = {
    "network": "network",
    "image": "batch",
    "step": "step",
    "ms": "ms",
    "to_plain": "/ plain",
    "gain": "naive / it",
    "peak_mib": "peak MiB",
}


def shown(key: str, value: object) -> str:
    """Write a figure for the table."""
    if value is None:
        return ""
    return (
        f"{value:.0f}"
        if key in {"ms", "peak_mib"}
        else (f"{value:.2f}" if isinstance(value, float) else str(value))
    )


def load_line() -> str:
    """Return how busy the machine is, where it says so."""
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    logging.getLogger("ignite").setLevel(logging.ERROR)
    load = load_line()
    records: list[dict[str, Any]] = []
    for name in options.networks:
        records += measure(name, options)
        print(f"{name}: done, {load_line()}", file=sys.stderr)
    print(
        f"PPI step beside a plain step ({hardware_line()}; {load} at the start; "
        f"{options.clock} time)\n"
    )
    rows = [[shown(key, record.get(key)) for key in COLUMNS] for record in records]
    print(table(list(COLUMNS.values()), rows))
    compared = [r["difference"] for r in records if r["difference"] is not None]
    if compared:
        print(f"\nloss and gradients of handler and naive form differ by <= {max(compared):.0e}")
    if options.json:
        write_json(
            options.json,
            {"limits": LIMITS, "load": load, "clock": options.clock, "records": records},
        )
    failed = failures(records)
    print("\n".join(failed), end="\n" if failed else "")
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
