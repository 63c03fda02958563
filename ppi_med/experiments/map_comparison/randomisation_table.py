"""The table of the sanity check, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ppi_med.experiments.map_comparison.methods import METHODS

Record = dict[str, Any]
# Of the mean absolute correlation once everything is random, see evaluation.sanity.
LIMIT = 0.5


def markdown(records: Iterable[Record], kind: str = "absolute") -> str:
    """Return one table a network: a line a block, from the output on, and a column a method.

    Args:
        records: of :func:`~.randomisation.run_randomisation`.
        kind: of the correlation, ``absolute`` or ``signed`` values of the maps.
    """
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        groups.setdefault(record["network"], {})[record["method"]] = record
    return "\n".join(_table(name, groups[name], kind) for name in sorted(groups))


def correlation(step: dict[str, Any], kind: str) -> float:
    """Return the mean over the images of the correlation's size; NaN where no map has an order."""
    values = [abs(value) for value in step[kind] if value is not None]
    return float(np.mean(values)) if values else float("nan")


def passes(record: Record, kind: str = "absolute", limit: float = LIMIT) -> bool | None:
    """Say whether little is left of the map once all is random; None: its maps are constant."""
    left = correlation(record["steps"][-1], kind)
    return None if left != left else left <= limit


def _table(network: str, by_method: dict[str, Record], kind: str) -> str:
    methods = [method for method in METHODS if method in by_method]
    first = by_method[methods[0]]
    lines = [
        f"| {network}, {kind} values: random from the output to | " + " | ".join(methods) + " |",
        "| --- |" + " --- |" * len(methods),
    ]
    for number, step in enumerate(first["steps"]):
        cells = [_cell(by_method[m]["steps"][number], kind) for m in methods]
        lines.append(f"| {step['layer']} | " + " | ".join(cells) + " |")
    verdicts = {True: "yes", False: "**no**", None: "no map"}
    last = [verdicts[passes(by_method[m], kind)] for m in methods]
    lines.append(f"| passes (all random: at most {LIMIT}) | " + " | ".join(last) + " |")
    return "\n".join(lines) + "\n"


def _cell(step: dict[str, Any], kind: str) -> str:
    mean = correlation(step, kind)
    constant = sum(value is None for value in step[kind])
    note = f" ({constant} const.)" if constant and mean == mean else ""
    return "const." if mean != mean else f"{mean:.2f}{note}"
