"""The output of a study: tables, rules and pictures, also in a run of MLflow; Dice of one run."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ppi_med.evaluation.bootstrap import Interval, interval, of_mean
from ppi_med.evaluation.figures import plain_figure, save_figure
from ppi_med.experiments.table import Row, Table, Value, ranged, write_table
from ppi_med.experiments.weak_segmentation.cases import load_study_cases
from ppi_med.experiments.weak_segmentation.choice import REFERENCES
from ppi_med.experiments.weak_segmentation.study import (
    CEILING,
    FLOORS,
    MODES,
    Outcome,
    Study,
    picture,
)
from ppi_med.io import atomic_path, write_json
from ppi_med.segmentation.network import load_network, saliency_methods
from ppi_med.tracking.base import NullTracker, Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CASES, SUMMARY, RULES = "cases.csv", "summary.csv", "rules.json"
PREFIX = "seg"
"""Prefixes of the metrics: `seg/dice_union/centred/wbp`, `seg_case/...` with the case as the
step."""
READER_COLOURS = ("#ffd166", "#06d6a0", "#4cc9f0", "#ef476f")
_MASK = "#ff5d2e"
_PERCENTILE = 99.5
_NETWORK = ("architecture", "architecture_options", "image_size", "field_mm")


def write_outcomes(
    outcomes: Sequence[Outcome],
    directory: str | Path,
    tracker: Tracker | None = None,
    *,
    pictures: int = 6,
) -> list[Path]:
    """Write all tables and pictures, and record them.

    Args:
        outcomes: outcomes of a study.
        directory: output folder, made if missing; files of an earlier study are replaced.
        tracker: an open run; None records nothing.
        pictures: cases per picture; 0 for none.

    Returns:
        The files.
    """
    folder, tracker = Path(directory), tracker if tracker is not None else NullTracker()
    files = write_table(summary_table(outcomes), folder)
    # Instead of the table's own CSV: all measures with their ends.
    _write_rows(folder / SUMMARY, summary_rows(outcomes))
    files.append(_write_rows(folder / CASES, [row for o in outcomes for row in case_rows(o)]))
    write_json(folder / RULES, [_rule(outcome) for outcome in outcomes])
    files.append(folder / RULES)
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
    for name, mean in intervals(outcome).items():
        base = f"{PREFIX}/{name}/{outcome.crops}/{outcome.method}"
        found[base] = mean.value
        found[f"{base}/low"], found[f"{base}/high"] = mean.low, mean.high
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
        tracker.log_artifact(
            path, "pictures" if path.parent.name == "pictures" else "weak_segmentation"
        )


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


def mean_interval(name: str, values: ArrayLike, subjects: Sequence[str]) -> Interval:
    """Return the mean over cases with its interval over patients; NaN: not measured, left out."""
    measured = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(measured)
    if not there.any():
        return Interval(name, math.nan, math.nan, math.nan)
    return interval([of_mean(measured[there], np.asarray(subjects, dtype=str)[there])], name)


def difference_interval(
    name: str, one: Outcome, other: Outcome, measure: str = "dice_union"
) -> Interval:
    """Return the mean difference of two outcomes on the same cases, one minus other.

    Args:
        name: name of the difference.
        one: an outcome.
        other: the other's values of the same cases and crops.
        measure: a column of the rows.

    Raises:
        ValueError: if the cases differ.
    """
    names = [[view.case.name for view in outcome.views] for outcome in (one, other)]
    if names[0] != names[1] or one.crops != other.crops:
        raise ValueError(f"{one.method} and {other.method} were not judged on the same cases.")
    gaps = [
        a.get(measure, math.nan) - b.get(measure, math.nan)
        for a, b in zip(one.rows, other.rows, strict=True)
    ]
    return mean_interval(name, gaps, [view.case.subject for view in one.views])


def case_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row per case: facts and scores."""
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


def intervals(outcome: Outcome) -> dict[str, Interval]:
    """Return the mean of each score that some case has, with its interval.

    Scores of single readers are only in the table of cases: slots are not people.
    """
    subjects = [view.case.subject for view in outcome.views]
    found: dict[str, Interval] = {}
    for name in sorted({key for row in outcome.rows for key in row}):
        values = [row.get(name, math.nan) for row in outcome.rows]
        single = name.rpartition("_")[2].removeprefix("reader").isdigit()
        if not single and not np.isnan(values).all():
            found[name] = mean_interval(name, values, subjects)
    return found


def summary_rows(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return one row per method and kind of crop: what was chosen, means and their ends."""
    found = []
    for outcome in outcomes:
        row: dict[str, Any] = {
            "method": outcome.method,
            "crops": outcome.crops,
            "cases": len(outcome.views),
            "rule": outcome.rule or outcome.reason,
            "validation_dice": outcome.validation_dice,
        }
        for name, found_ in intervals(outcome).items():
            row |= {
                name: found_.value,
                f"{name}_low": found_.low,
                f"{name}_high": found_.high,
            }
        found.append(row)
    return found


def summary_table(outcomes: Sequence[Outcome]) -> Table:
    """Return Dice and HD95 with their intervals, one line per method and kind of crop."""
    rows: list[Row] = []
    for outcome in outcomes:
        found = intervals(outcome)
        names = ("dice_union", "dice_majority", "dice_readers")
        cells = [ranged(found.get(name)) for name in names]
        if "dice_mutual" in found:
            mutual = ranged(found["dice_mutual"])
            cells[1:] = [Value(""), Value(f"{mutual.text} (mutual)", mutual.value)]
        distance = ranged(found.get("hd95_mm_union"), digits=2)
        rule = outcome.rule or outcome.reason
        rows.append((outcome.method, outcome.crops, *cells, distance, rule))
    return Table(
        "summary",
        "Maps as masks, beside the readers and masks without a map",
        (
            *("method", "crops", "Dice union", "Dice majority", "Dice readers"),
            *("HD95 union (mm)", "rule"),
        ),
        tuple(rows),
        ("[a, b]: 95 % interval over resampled patients.",),
    )


def typical_cases(outcome: Outcome, count: int = 6) -> list[int]:
    """Return indices of cases at evenly spaced ranks of the lesion's area.

    The cases are the same for every method and network, and do not depend on a method's success.
    """
    areas = [int(view.union.sum()) for view in outcome.views]
    order = sorted(range(len(areas)), key=lambda i: (areas[i], outcome.views[i].case.name))
    ranks = (np.arange(min(count, len(order))) + 0.5) / min(count, len(order)) * len(order)
    return [order[int(rank)] for rank in ranks]


def segmentation_figure(outcome: Outcome, count: int = 6) -> Figure:
    """Draw typical cases, one per row.

    Args:
        outcome: an outcome with masks; maps are drawn if there are any.
        count: number of cases.

    Raises:
        ValueError: for an outcome without masks.
    """
    if not outcome.masks:
        raise ValueError(f"{outcome.method} has no masks to draw, expected an outcome with some.")
    chosen = typical_cases(outcome, count)
    figure = plain_figure(8.4, 2.2 * len(chosen) + 0.5)
    axes = figure.subplots(len(chosen), 4, squeeze=False)
    for row, index in enumerate(chosen):
        _draw(axes[row], outcome, index)
        if row == 0:
            for column, title in enumerate(("CT", "map", "weak mask", "readers")):
                axes[0, column].set_title(title, fontsize=9)
    figure.suptitle(f"{outcome.method}, {outcome.crops} crops: {outcome.rule}", fontsize=9)
    return figure


def _draw(axes: Any, outcome: Outcome, index: int) -> None:
    view, mask = outcome.views[index], outcome.masks[index]
    grey = picture(view)
    for column in range(4):
        axes[column].imshow(grey, cmap="gray", vmin=0, vmax=1)
        axes[column].set_xticks([])
        axes[column].set_yticks([])
    if outcome.maps:
        values = outcome.maps[index]
        strength = float(np.percentile(np.abs(values), _PERCENTILE)) or 1.0
        axes[1].imshow(values, cmap="coolwarm", vmin=-strength, vmax=strength, alpha=0.65)
    if mask.any():
        axes[2].contour(mask, levels=[0.5], colors=_MASK, linewidths=1.2)
    for slot in np.flatnonzero(view.case.drawn).tolist():
        if view.readers[slot].any():
            colour = READER_COLOURS[slot % len(READER_COLOURS)]
            axes[3].contour(view.readers[slot], levels=[0.5], colors=colour, linewidths=0.9)
    dice = outcome.rows[index].get("dice_union", float("nan"))
    axes[0].set_ylabel(view.case.name, fontsize=7)
    axes[2].set_xlabel(f"Dice {dice:.2f}", fontsize=7)


def run_dice(
    folder: str | Path,
    overrides: Mapping[str, Any],
    methods: str = "wbp,wbp_symmetric",
    most: int | None = None,
) -> dict[str, dict[str, float]]:
    """Return the weak Dice of a run on each of its own test cases, with ceiling and best floor.

    What is chosen (rule, radius, threshold, random walker) is chosen on the run's validation cases.
    HD95 is left out, so that it takes a small part of the training's time.

    Args:
        folder: folder of the run, with `model.pt`.
        overrides: overrides of the bundle's configuration, as the run had them: `bundle_root`,
            `dataset_dir`, `test_fold` or `fold`, and the network's.
        methods: saliency methods, comma-separated.
        most: largest number of cases per part.

    Returns:
        `union/centred/wbp` and so on for majority and shifted crops, by case; the same with
        `ceiling` (the readers' mutual Dice, with union only; NaN for a nodule of one reader) and
        `floor` (the best floor on these same cases).
    """
    own = {key: overrides[key] for key in _NETWORK if key in overrides}
    found = load_network(overrides["bundle_root"], Path(folder) / "model.pt", own)
    cases = load_study_cases(
        overrides["dataset_dir"],
        fold=overrides.get("fold"),
        test_fold=overrides.get("test_fold"),
        most=most,
    )
    study = Study(cases, found.grid, distances=False)
    chosen = saliency_methods(methods, found.grid.size)
    outcomes = study.all(found.network, chosen, MODES, normalise=found.normalise)
    figures: dict[str, dict[str, float]] = {}
    for mode in MODES:
        here = {o.method: o for o in outcomes if o.crops == mode and o.rows}
        figures[f"union/{mode}/ceiling"] = _by_case(here[CEILING], "dice_mutual")
        for reference in REFERENCES:
            measure = f"dice_{reference}"
            floors = [_by_case(here[name], measure) for name in FLOORS]
            figures[f"{reference}/{mode}/floor"] = max(floors, key=_mean)
            for name in chosen:
                if name in here:
                    figures[f"{reference}/{mode}/{name}"] = _by_case(here[name], measure)
    return figures


def _by_case(outcome: Outcome, measure: str) -> dict[str, float]:
    return {
        view.case.name: row.get(measure, np.nan)
        for view, row in zip(outcome.views, outcome.rows, strict=True)
    }


def _mean(values: Mapping[str, float]) -> float:
    return float(np.nanmean(list(values.values())))


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as CSV; columns in the order of first appearance, NaN as an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return path


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
