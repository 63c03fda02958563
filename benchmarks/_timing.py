"""Shared by the benchmarks: interleaved timing, ratios of pairs, peak memory, hardware line."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _memory import own_peak_mib  # noqa: E402

Work = Callable[[], object]
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def interleaved(
    work: Mapping[str, Work], *, rounds: int = 10, warmup: int = 2, clock: str = "wall"
) -> dict[str, list[float]]:
    """Time several pieces of work in turn, so that a busy machine disturbs all of them alike.

    Args:
        work: what to time, by name.
        rounds: how often each is timed; the order within a round is rotated.
        warmup: rounds before the first that counts.
        clock: `"wall"`, or `"cpu"` for the processor time of this process, which other
            processes disturb less.

    Returns:
        Seconds of each round, by name.
    """
    names, now = list(work), CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            synchronise()
            start = now()
            work[name]()
            synchronise()
            if number >= 0:
                seconds[name].append(now() - start)
    return seconds


def synchronise() -> None:
    """Wait for what a GPU has been asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(seconds: Mapping[str, Sequence[float]], name: str, base: str) -> float:
    """Return the median over the rounds of `name`'s time by `base`'s in the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def median_ms(seconds: Sequence[float]) -> float:
    """Return the median in milliseconds."""
    return 1000 * statistics.median(seconds)


def peak_memory(prepare: Callable[..., Work], *args: Any) -> float:
    """Return by how many MiB a process of its own grows at most while it does a piece of work.

    Args:
        prepare: a function at the top of a module; it returns the work, whose first run counts.
        args: its arguments.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure_peak, args=(sender, torch.get_num_threads(), prepare, args)
    )
    process.start()
    sender.close()
    try:
        grown: float = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"the process that measured the memory ended with code {process.exitcode}"
        ) from None
    process.join()
    return grown


def _measure_peak(
    sender: Any, threads: int, prepare: Callable[..., Work], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(threads)
    work = prepare(*args)
    before = own_peak_mib()
    work()
    sender.send(own_peak_mib() - before)


def hardware_line() -> str:
    """Return processor, cores, threads and versions in one line."""
    parts = [_processor(), f"{os.cpu_count()} cores", f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    return ", ".join(parts)


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    lines = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write the figures with the command and the hardware line."""
    whole = {"command": " ".join(sys.argv), "hardware": hardware_line(), **content}
    Path(path).write_text(json.dumps(whole, indent=2) + "\n")
