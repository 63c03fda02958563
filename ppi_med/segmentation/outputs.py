"""What a study leaves: tables, rules, pictures, and the same in a run of MLflow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from ppi_med.evaluation.figures import save_figure
from ppi_med.io import write_json, write_text
from ppi_med.segmentation.pictures import segmentation_figure
from ppi_med.segmentation.study import Outcome
from ppi_med.segmentation.tables import (
    case_rows,
    intervals,
    markdown,
    summary_rows,
    write_table,
)
from ppi_med.tracking.base import NullTracker, Tracker

CASES, SUMMARY, TABLE, RULES = "cases.csv", "summary.csv", "summary.md", "rules.json"
PREFIX = "seg"
"""Of the metrics: ``seg/dice_union/centred/wbp``, ``seg_case/...`` with the case as the step."""


def write_outcomes(
    outcomes: Sequence[Outcome],
    directory: str | Path,
    tracker: Tracker | None = None,
    *,
    pictures: int = 6,
) -> list[Path]:
    """Write all tables and pictures, and record them.

    Args:
        outcomes: of a study.
        directory: made if it is not there; files of an earlier study are replaced.
        tracker: an open run; None records nothing.
        pictures: cases a picture; 0 for none.

    Returns:
        The files.
    """
    folder, tracker = Path(directory), tracker if tracker is not None else NullTracker()
    files = [
        write_table(folder / CASES, [row for o in outcomes for row in case_rows(o)]),
        write_table(folder / SUMMARY, summary_rows(outcomes)),
    ]
    write_text(folder / TABLE, markdown(outcomes) + "\n")
    write_json(folder / RULES, [_rule(outcome) for outcome in outcomes])
    files += [folder / TABLE, folder / RULES]
    for outcome in outcomes if pictures else ():
        if outcome.masks:
            name = re.sub(r"[^\w\-]", "_", f"{outcome.method}_{outcome.crops}")
            path = folder / "pictures" / f"{name}.png"
            files.append(save_figure(segmentation_figure(outcome, pictures), path, dpi=110))
    if tracker.active:
        _record(outcomes, files, tracker)
    return files


def metrics_of(outcome: Outcome) -> dict[str, float]:
    """Return the means of an outcome with their ends, by their names in MLflow."""
    found = {}
    for name, interval in intervals(outcome).items():
        base = f"{PREFIX}/{name}/{outcome.crops}/{outcome.method}"
        found[base] = interval.value
        found[f"{base}/low"], found[f"{base}/high"] = interval.low, interval.high
    return found


def _record(outcomes: Sequence[Outcome], files: Sequence[Path], tracker: Tracker) -> None:
    tracker.log_metrics({k: v for o in outcomes for k, v in metrics_of(o).items()}, step=0)
    most = max((len(outcome.rows) for outcome in outcomes), default=0)
    for step in range(most):
        values = {
            f"{PREFIX}_case/dice_union/{o.crops}/{o.method}": o.rows[step]["dice_union"]
            for o in outcomes
            if step < len(o.rows) and not math.isnan(o.rows[step].get("dice_union", math.nan))
        }
        tracker.log_metrics(values, step=step)
    for path in files:
        tracker.log_artifact(path, "pictures" if path.suffix == ".png" else "weak_segmentation")


def _rule(outcome: Outcome) -> dict[str, object]:
    dice = outcome.validation_dice
    return {
        "method": outcome.method,
        "crops": outcome.crops,
        "rule": outcome.rule,
        "options": dict(outcome.options),
        "validation_dice": None if math.isnan(dice) else dice,
        "tried": outcome.tried,
        "reason": outcome.reason,
    }
