"""Weak segmentation on LIDC: from the map of a classifier to a mask, and how good it is.

- `cases`: patches with their readers' masks, in the crop that the network sees.
- `maps`: maps of a network; ceiling and floors: readers, and masks without a map.
- `choice`: the rule is chosen on validation patients only.
- `study`: all of this for one network. `report`: its files, and the Dice of a finished run.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("Case", "case_of", "load_study_cases"), "cases"),
        **dict.fromkeys(("RuleChoice", "TestCaseError", "rule_grid"), "choice"),
        **dict.fromkeys(("Outcome", "Study"), "study"),
        **dict.fromkeys(("difference_interval", "intervals", "run_dice"), "report"),
        **dict.fromkeys(("segmentation_figure", "write_outcomes"), "report"),
    },
)
