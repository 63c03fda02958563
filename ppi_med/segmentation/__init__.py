"""Weakly-supervised segmentation: from the map of a classifier to a mask, and how good it is.

- `masking`: map to mask by a rule; `refine`: along the image's edges.
- `choice`: the rule is chosen on validation patients, and on no others.
- `cases`, `windows`: patches with their readers' masks, in the crop that the network sees.
- `maps`, `methods`: maps of a network for cases, by every saliency method.
- `scores`, `references`: Dice, IoU, HD95 in mm; ceiling and floors.
- `study`: all of it for one network; `outputs`, `tables`, `pictures`: what is written.
- `bundle`, `benchmark`: the network of a bundle, the figures of a finished run.

They are imported on first use, so that a mask does not cost MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Case": "cases",
    "MaskRule": "masking",
    "NetworkGrid": "windows",
    "RuleChoice": "choice",
    "Study": "study",
    "case_of": "cases",
    "map_to_mask": "masking",
    "rule_grid": "choice",
    "run_dice": "benchmark",
    "saliency_methods": "methods",
    "score_case": "scores",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
