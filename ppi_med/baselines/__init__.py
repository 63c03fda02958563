"""Training methods to compare PPI with: each one handler on a stock trainer, by name.

- `strong_augmentation`: geometry, grey values, noise, blur and erasing, drawn for each image.
- `group_dro`: the worst group's loss counts most (Sagawa et al., 2020).
- `irm`: one classifier that is optimal at every site (Arjovsky et al., 2019).
- `rsc`: the features with the largest gradients are left out (Huang et al., 2020).
- `right_reasons`: no gradient outside the lesion (Ross et al., 2017); it sees the masks.
- `spectral_decoupling`: large logits cost (Pezeshki et al., 2021).
- `saliency_guided`: what has little gradient may be anything (Ismail et al., 2021).
- `mask_tune`: a last epoch without what the network looks at (Asgari Taghanaki et al., 2022).
- `d_bat`: a second network contradicts the first on unlabelled images (Pagliardini et al., 2023).

Masking at random places is a control of PPI itself: `random_mask`, `random_exchange`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from ppi_med.baselines.base import Baseline

__all__ = ["BASELINES", "Baseline", "baseline", "baseline_options"]

# A file is imported when its method is asked for.
_WHERE = {
    "strong_augmentation": "StrongAugmentation",
    "group_dro": "GroupDRO",
    "irm": "IRM",
    "rsc": "RSC",
    "right_reasons": "RightReasons",
    "spectral_decoupling": "SpectralDecoupling",
    "saliency_guided": "SaliencyGuided",
    "mask_tune": "MaskTune",
    "d_bat": "DBat",
}
BASELINES = tuple(_WHERE)


def baseline(
    name: str, *, seed: int = 0, slice_axis: int | None = None, **options: Any
) -> Baseline:
    """Return the handler of a baseline.

    Args:
        name: one of `BASELINES`.
        seed: seed of what is drawn.
        slice_axis: axis of `(N, C, *spatial)` along which an image is moved as a whole.
        options: options of the handler.

    Examples:
        >>> baseline("irm", weight=10.0).weight
        10.0
    """
    given = {"seed": seed, "slice_axis": slice_axis}
    made: Baseline = _kind(name)(
        **{key: value for key, value in given.items() if key in baseline_options(name)}, **options
    )
    return made


def baseline_options(name: str) -> tuple[str, ...]:
    """Return the names of a baseline's options.

    Examples:
        >>> baseline_options("irm")
        ('weight', 'warm_up_epochs', 'groups')
    """
    return tuple(inspect.signature(_kind(name)).parameters)


def _kind(name: str) -> Any:
    return getattr(import_module(f"ppi_med.baselines.{name}"), _WHERE[name])
