"""Every saliency method by name, with settings for images of some dozen pixels a side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.saliency import (
    LRP,
    WBP,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SaliencyMethod,
    SmoothGrad,
    SymmetryMean,
)
from ppi_med.saliency.lrp_composite import epsilon_alpha2_beta1, epsilon_plus_flat

_METHODS: Mapping[str, Callable[[int], SaliencyMethod]] = {
    "wbp": lambda _: WBP(),
    "wbp_symmetric": lambda _: SymmetryMean(),
    "gradient": lambda _: Gradient("absolute"),
    "gradient_x_input": lambda _: GradientTimesInput(),
    "integrated_gradients": lambda _: IntegratedGradients(16),
    "smoothgrad": lambda _: SmoothGrad(Gradient("absolute"), samples=16),
    "smoothgrad_wbp": lambda _: SmoothGrad(WBP(), samples=16),
    "gradcam": lambda _: GradCAM(),
    "gradcam_plus_plus": lambda _: GradCAMPlusPlus(),
    "lrp_epsilon": lambda _: LRP(),
    "lrp_alpha2_beta1": lambda _: LRP(epsilon_alpha2_beta1()),
    "lrp_epsilon_plus_flat": lambda _: LRP(epsilon_plus_flat()),
    "occlusion": lambda side: Occlusion(window=max(2, side // 8), stride=max(1, side // 16)),
}
METHODS = tuple(_METHODS)


def saliency_methods(names: str = "all", size: int = 40) -> dict[str, Any]:
    """Return methods by name.

    Args:
        names: commas between, or "all".
        size: rows and columns of the network's images, from which the occluding window follows.

    Raises:
        UsageError: there is no such method.

    Examples:
        >>> list(saliency_methods("wbp,gradcam"))
        ['wbp', 'gradcam']
    """
    wanted = METHODS if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    for name in wanted:
        if name not in _METHODS:
            raise UsageError(f"There is no method {name!r}: choose from {', '.join(METHODS)}.")
    return {name: _METHODS[name](size) for name in wanted}
