"""The tables of weak masks in the LIDC benchmark, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.evaluation.bootstrap import subject_weights
from ppi_med.experiments.lidc_benchmark import ENTRIES, PLAIN
from ppi_med.experiments.packing import unpack_values

Record = Mapping[str, Any]
Floats = NDArray[np.float64]
CEILING, FLOOR = "ceiling", "floor"
_BOUNDS = (CEILING, FLOOR)


@dataclass(frozen=True)
class MaskTable:
    """Masks of every entry against one reference on one kind of crop.

    Attributes:
        reference: "union" or "majority".
        crops: "centred" or "shifted".
        bounds: "floor" and, for the union, "ceiling": mean over cases with the ends of its 95 %
            interval over patients, of the entry that has most cases.
        methods: the saliency methods.
        rows: an entry's cells: a mean a method, then the last method's difference to the floor
            and to plain training, each None where there is none.
    """

    reference: str
    crops: str
    bounds: dict[str, tuple[float, float, float]]
    methods: tuple[str, ...]
    rows: dict[str, list[tuple[float, float, float] | None]]

    def markdown(self) -> str:
        """Return the bounds as a sentence and the rows as a Markdown table."""
        bounds = ", ".join(f"{name} {_text(value)}" for name, value in self.bounds.items())
        last = self.methods[-1]
        head = ["method", *self.methods, f"{last}, above the floor", f"{last}, to plain"]
        lines = [f"| {' | '.join(head)} |", "| " + " | ".join(["---"] * len(head)) + " |"]
        for entry, cells in self.rows.items():
            signs = [""] * len(self.methods) + ["+", "+"]
            texts = ["" if c is None else _text(c, s) for c, s in zip(cells, signs, strict=True)]
            lines.append(f"| {' | '.join([entry, *texts])} |")
        title = f"Dice against the {self.reference}, {self.crops} crops; {bounds}:"
        return f"{title}\n\n" + "\n".join(lines) + "\n"


def mask_tables(records: Iterable[Record], repeats: int = 2000) -> list[MaskTable]:
    """Return the tables, union before majority and centred before shifted.

    Args:
        records: of `run_lidc_benchmark`; those without masks are passed over.
        repeats: resamples of the intervals.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.get("masks"):
            groups.setdefault(str(record["entry"]), []).append(record)
    names = [*(n for n in ENTRIES if n in groups), *sorted(set(groups) - set(ENTRIES))]
    kinds = dict.fromkeys(
        figure.rsplit("/", 1)[0]
        for group in groups.values()
        for record in group
        for figure in record["masks"]
    )
    order = sorted(kinds, key=lambda kind: (not kind.startswith("union"), kind))
    return [_table(kind, {name: groups[name] for name in names}, repeats) for kind in order]


def _table(kind: str, groups: Mapping[str, Sequence[Record]], repeats: int) -> MaskTable:
    entries = {name: _Cases(kind, group) for name, group in groups.items()}
    longest = max(entries.values(), key=lambda cases: len(cases.keys))
    methods = dict.fromkeys(m for c in entries.values() for m in c.values if m not in _BOUNDS)
    bounds = {
        name: longest.interval(longest.values[name], repeats)
        for name in _BOUNDS
        if name in longest.values
    }
    plain = entries.get(PLAIN)
    rows = {name: _row(cases, plain, tuple(methods), repeats) for name, cases in entries.items()}
    reference, crops = kind.split("/")
    return MaskTable(reference, crops, bounds, tuple(methods), rows)


class _Cases:
    """The test cases of an entry over all its folds and seeds."""

    def __init__(self, kind: str, records: Sequence[Record]) -> None:
        self.keys: list[tuple[int, str]] = []
        subjects: list[str] = []
        values: dict[str, list[Floats]] = {}
        for record in records:
            cases = record["predictions"]["volume_id"].split()
            self.keys += [(int(record["seed"]), name) for name in cases]
            subjects += record["predictions"]["subject"].split()
            for figure, packed in record["masks"].items():
                where, name = figure.rsplit("/", 1)
                if where == kind:
                    values.setdefault(name, []).append(unpack_values(packed))
        self.subjects = np.asarray(subjects)
        self.values = {
            name: np.concatenate(parts)
            for name, parts in values.items()
            if len(parts) == len(records)
        }

    def interval(self, values: Floats, repeats: int) -> tuple[float, float, float]:
        """Return the mean over cases with the ends of its 95 % interval over patients."""
        known = ~np.isnan(values)
        filled = np.where(known, values, 0.0)
        draws = [
            (weights @ filled) / (weights @ known)
            for weights in subject_weights(self.subjects, repeats, seed=0)
        ]
        low, high = np.nanpercentile(np.concatenate(draws), [2.5, 97.5])
        return float(values[known].mean()), float(low), float(high)

    def paired(self, other: _Cases, method: str) -> Floats | None:
        """Return the difference to another entry on the same cases; NaN where it has none."""
        if method not in self.values or method not in other.values:
            return None
        theirs = dict(zip(other.keys, other.values[method].tolist(), strict=True))
        found = self.values[method] - np.array([theirs.get(key, np.nan) for key in self.keys])
        return None if np.isnan(found).all() else found


def _row(
    cases: _Cases, plain: _Cases | None, methods: Sequence[str], repeats: int
) -> list[tuple[float, float, float] | None]:
    found = [
        cases.interval(cases.values[m], repeats) if m in cases.values else None for m in methods
    ]
    last = methods[-1]
    above = None
    if last in cases.values and FLOOR in cases.values:
        above = cases.interval(cases.values[last] - cases.values[FLOOR], repeats)
    gain = cases.paired(plain, last) if plain is not None and plain is not cases else None
    return [*found, above, None if gain is None else cases.interval(gain, repeats)]


def _text(value: tuple[float, float, float], sign: str = "") -> str:
    mean, low, high = (f"{number:{sign}.3f}" for number in value)
    return f"{mean} [{low}, {high}]"
