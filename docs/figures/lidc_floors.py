"""What masks that need no network are worth on LIDC's nodules: the figures in the how-to.

python docs/figures/lidc_floors.py PATH/lidc_nodules

One number, or one pair, for all nodules whose readers are known, chosen on the same nodules: an
upper bound of what a choice on validation patients can reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.experiments.weak_segmentation.cases import View, load_study_cases, views_of
from ppi_med.experiments.weak_segmentation.maps import (
    LEVELS_HU,
    LEVELS_IN_DISC,
    RADII_MM,
    bright_component,
    bright_component_in_disc,
    disc_mask,
)
from ppi_med.segmentation.grid import NetworkGrid
from ppi_med.segmentation.masking import Mask
from ppi_med.segmentation.scores import quick_dice

FLOORS: tuple[tuple[str, Iterable[Any], Callable[[Any, View], Mask]], ...] = (
    ("disc, mm", RADII_MM, disc_mask),
    ("bright component, HU", LEVELS_HU, bright_component),
    ("bright component in disc, HU and mm", LEVELS_IN_DISC, bright_component_in_disc),
)


def all_views(data: Path, grid: NetworkGrid) -> list[View]:
    """Return every nodule of the five folds, centred."""
    cases = {}
    for fold in range(5):
        for case in load_study_cases(data, test_fold=fold):
            cases[case.name] = case
    return views_of(cases.values(), grid)


def main() -> None:
    """Print the best single option of each floor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the nodules")
    views = all_views(parser.parse_args().data, NetworkGrid(40, 32.0))
    print(f"{len(views)} nodules, crops of 32 mm, mean Dice against the union")
    for name, options, mask_of in FLOORS:
        dice, option = max(
            (float(np.mean([quick_dice(mask_of(option, v), v.union) for v in views])), option)
            for option in options
        )
        print(f"{name}: {dice:.3f} at {option}", flush=True)


if __name__ == "__main__":
    main()
