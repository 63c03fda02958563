"""Every method by name, with the same meaning everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.saliency.base import SaliencyMethod
from ppi_med.saliency.gradcam import GradCAM, GradCAMPlusPlus
from ppi_med.saliency.gradient import Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad
from ppi_med.saliency.lrp.composite import (
    LRP,
    Composite,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
)
from ppi_med.saliency.lrp.rules import Gamma
from ppi_med.saliency.occlusion import Occlusion
from ppi_med.saliency.symmetry import SymmetryMean
from ppi_med.saliency.wbp import WBP


def _lrp(composite: Callable[..., Composite]) -> Callable[..., SaliencyMethod]:
    return lambda **options: LRP(composite(**options))


_METHODS: Mapping[str, Callable[..., SaliencyMethod]] = {
    "wbp": WBP,
    "wbp_symmetric": SymmetryMean,
    "gradient": Gradient,
    "gradient_absolute": partial(Gradient, "absolute"),
    "gradient_x_input": GradientTimesInput,
    "integrated_gradients": partial(IntegratedGradients, steps=16),
    "smoothgrad": partial(SmoothGrad, method=Gradient("absolute")),
    "smoothgrad_wbp": partial(SmoothGrad, method=WBP()),
    "gradcam": GradCAM,
    "gradcam_plus_plus": GradCAMPlusPlus,
    "lrp_epsilon": LRP,
    "lrp_gamma": lambda **options: LRP(Gamma(**options)),
    "lrp_alpha2_beta1": _lrp(epsilon_alpha2_beta1),
    "lrp_epsilon_plus": _lrp(epsilon_plus),
    "lrp_epsilon_plus_flat": _lrp(epsilon_plus_flat),
    "lrp_epsilon_gamma_box": _lrp(epsilon_gamma_box),
    "occlusion": Occlusion,
}
METHODS = tuple(_METHODS)


def by_name(name: str, **options: Any) -> SaliencyMethod:
    """Return a method by its name.

    `gradient` is signed, `gradient_absolute` its absolute value, of which `smoothgrad` is the
    mean; `lrp_` with the name of a composite has that composite's rules.

    Args:
        name: one of `METHODS`.
        options: options of the method or of the composite: `steps` (default 16 here), `samples`,
            `window`, `slice_axis`; `low` and `high` of `lrp_epsilon_gamma_box`.

    Returns:
        The method.

    Raises:
        UsageError: if there is no such method, or it has no such option.

    Examples:
        >>> by_name("gradient").kind, by_name("gradient_absolute").kind
        ('signed', 'absolute')
        >>> by_name("occlusion", window=4).window
        4
        >>> by_name("grad_cam")
        Traceback (most recent call last):
        ...
        ppi_med.errors.UsageError: There is no method 'grad_cam'; near: gradcam...
    """
    if name not in _METHODS:
        near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise UsageError(f"There is no method {name!r}{hint}. Choose from {', '.join(METHODS)}.")
    try:
        return _METHODS[name](**options)
    except TypeError as error:
        raise UsageError(f"Method {name!r} with the options {options}: {error}.") from error
