"""Outcomes as tables: one row a case, means with their interval over patients."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.bootstrap import Interval, interval, of_mean
from ppi_med.io import atomic_path
from ppi_med.segmentation.study import Outcome

FACTS = ("method", "crops", "volume_id", "subject", "label", "area_px", "mask_px")


def mean_interval(
    name: str,
    values: ArrayLike,
    subjects: Sequence[str],
    *,
    repeats: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean over cases with a percentile interval over resampled patients.

    Args:
        name: of the measure.
        values: one a case; NaN: not measured there, left out.
        subjects: the patient of each case.
        repeats: number of resamples.
        level: share of the resamples inside the interval.
        seed: of the resampling.

    Returns:
        The interval; its ends are NaN where fewer than two patients have a value.

    Examples:
        >>> found = mean_interval("dice", [0.5, 0.7, 0.9], ["a", "b", "c"])
        >>> round(found.value, 3), found.low < 0.7 < found.high
        (0.7, True)
    """
    values = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(values)
    if not there.any():
        return Interval(name, math.nan, math.nan, math.nan, level)
    part = of_mean(values[there], np.asarray(subjects, dtype=str)[there])
    return interval([part], name, repeats=repeats, level=level, seed=seed)


def difference_interval(
    name: str, one: Outcome, other: Outcome, measure: str = "dice_union", **options: Any
) -> Interval:
    """Return the mean difference of two outcomes on the same cases, one minus other.

    Args:
        name: of the difference.
        one: an outcome.
        other: of the same cases and crops.
        measure: a column of the rows.
        options: of :func:`mean_interval`.

    Raises:
        ValueError: where the cases are not the same.
    """
    names = [[view.case.name for view in outcome.views] for outcome in (one, other)]
    if names[0] != names[1] or one.crops != other.crops:
        raise ValueError(f"{one.method} and {other.method} were not judged on the same cases.")
    gaps = [
        a.get(measure, math.nan) - b.get(measure, math.nan)
        for a, b in zip(one.rows, other.rows, strict=True)
    ]
    return mean_interval(name, gaps, [view.case.subject for view in one.views], **options)


def case_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row a case: facts and scores."""
    found = []
    for index, (view, scores) in enumerate(zip(outcome.views, outcome.rows, strict=True)):
        facts: dict[str, Any] = {
            "method": outcome.method,
            "crops": outcome.crops,
            "volume_id": view.case.name,
            "subject": view.case.subject,
            "label": view.case.label,
            "area_px": int(view.union.sum()),
            "mask_px": int(outcome.masks[index].sum()) if outcome.masks else "",
        }
        found.append(facts | dict(scores))
    return found


def intervals(outcome: Outcome, **options: Any) -> dict[str, Interval]:
    """Return the mean of each score that some case has, with its interval.

    Scores of single readers are left to the table of cases: slots are no persons.
    """
    subjects = [view.case.subject for view in outcome.views]
    found: dict[str, Interval] = {}
    for name in sorted({key for row in outcome.rows for key in row}):
        values = [row.get(name, math.nan) for row in outcome.rows]
        single = name.rpartition("_")[2].removeprefix("reader").isdigit()
        if not single and not np.isnan(values).all():
            found[name] = mean_interval(name, values, subjects, **options)
    return found


def summary_rows(outcomes: Iterable[Outcome], **options: Any) -> list[dict[str, Any]]:
    """Return one row a method and kind of crop: what was chosen, means and their ends."""
    found = []
    for outcome in outcomes:
        row: dict[str, Any] = {
            "method": outcome.method,
            "crops": outcome.crops,
            "cases": len(outcome.views),
            "rule": outcome.rule or outcome.reason,
            "validation_dice": outcome.validation_dice,
        }
        for name, found_ in intervals(outcome, **options).items():
            row |= {
                name: found_.value,
                f"{name}_low": found_.low,
                f"{name}_high": found_.high,
            }
        found.append(row)
    return found


def write_table(path: str | Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as CSV, atomically; columns in the order of their first appearance.

    Numbers that were not measured are empty cells.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return Path(path)


def markdown(outcomes: Sequence[Outcome], **options: Any) -> str:
    """Return a table of Dice and HD95 with intervals, as text."""
    lines = [
        "| method | crops | Dice union | Dice majority | Dice readers | HD95 union (mm) | rule |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        found = intervals(outcome, **options)
        if "dice_mutual" in found:
            third = found["dice_mutual"]
            cells = [_text(found.get("dice_union")), "", f"{_text(third)} (mutual)"]
        else:
            names = ("dice_union", "dice_majority", "dice_readers")
            cells = [_text(found.get(name)) for name in names]
        cells += [_text(found.get("hd95_mm_union"), 2), outcome.rule or outcome.reason]
        lines.append(f"| {outcome.method} | {outcome.crops} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(found: Interval | None, digits: int = 3) -> str:
    if found is None:
        return ""
    value, low, high = found.value, found.low, found.high
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
