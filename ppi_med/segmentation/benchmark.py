"""Dice of a finished run's maps, for the benchmark on LIDC's nodules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.segmentation.bundle import load_network, load_study_cases
from ppi_med.segmentation.methods import saliency_methods
from ppi_med.segmentation.study import CEILING, FLOORS, MODES, Outcome, Study

_NETWORK = ("architecture", "architecture_options", "image_size", "field_mm")


def run_figures(
    folder: str | Path,
    overrides: Mapping[str, Any],
    methods: str = "wbp",
    most: int | None = None,
) -> dict[str, float]:
    """Return the weak Dice of a run on its own test cases, with ceiling and best floor.

    What is chosen (rule, radius, threshold) is chosen on the run's validation cases. The random
    walker and HD95 are left out, so that it takes a small part of the training's time.

    Args:
        folder: of the run, with `model.pt`.
        overrides: of the bundle's configuration, as the run had them: `bundle_root`,
            `dataset_dir`, `test_fold` or `fold`, and the network's.
        methods: saliency methods, commas between.
        most: at most so many cases of each part.

    Returns:
        ``seg/dice_union/centred/wbp`` and so on for majority and shifted crops; the same with
        ``ceiling`` (the readers' mutual Dice, of union only) and ``floor`` (the best of the
        floors on these cases).
    """
    own = {key: overrides[key] for key in _NETWORK if key in overrides}
    found = load_network(overrides["bundle_root"], Path(folder) / "model.pt", own)
    cases = load_study_cases(
        overrides["dataset_dir"],
        fold=overrides.get("fold"),
        test_fold=overrides.get("test_fold"),
        most=most,
    )
    study = Study(cases, found.grid, betas=(), distances=False)
    chosen = saliency_methods(methods, found.grid.size)
    outcomes = study.all(found.network, chosen, MODES, normalise=found.normalise)
    figures: dict[str, float] = {}
    for mode in MODES:
        here = {o.method: o for o in outcomes if o.crops == mode and o.rows}
        figures[f"seg/dice_union/{mode}/ceiling"] = _mean(here[CEILING], "dice_mutual")
        for reference in ("dice_union", "dice_majority"):
            floors = [_mean(here[name], reference) for name in FLOORS]
            figures[f"seg/{reference}/{mode}/floor"] = max(floors)
            for name in chosen:
                if name in here:
                    figures[f"seg/{reference}/{mode}/{name}"] = _mean(here[name], reference)
    return figures


def _mean(outcome: Outcome, measure: str) -> float:
    return float(np.nanmean([row.get(measure, np.nan) for row in outcome.rows]))
