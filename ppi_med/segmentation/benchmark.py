"""Dice of a finished run's maps, for the benchmark on LIDC's nodules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.segmentation.bundle import load_network, load_study_cases
from ppi_med.segmentation.choice import REFERENCES
from ppi_med.segmentation.methods import saliency_methods
from ppi_med.segmentation.study import CEILING, FLOORS, MODES, Outcome, Study

_NETWORK = ("architecture", "architecture_options", "image_size", "field_mm")


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
        folder: of the run, with `model.pt`.
        overrides: of the bundle's configuration, as the run had them: `bundle_root`,
            `dataset_dir`, `test_fold` or `fold`, and the network's.
        methods: saliency methods, commas between.
        most: at most so many cases of each part.

    Returns:
        ``union/centred/wbp`` and so on for majority and shifted crops, by case; the same with
        ``ceiling`` (the readers' mutual Dice, with union only; NaN for a nodule of one reader) and
        ``floor`` (the floor that is best on these very cases).
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
