"""The saliency methods of weak segmentation, for images of some dozen pixels a side."""

from __future__ import annotations

from typing import Any

from ppi_med import saliency

METHODS = (
    *("wbp", "wbp_symmetric", "gradient_absolute", "gradient_x_input", "integrated_gradients"),
    *("smoothgrad", "smoothgrad_wbp", "gradcam", "gradcam_plus_plus"),
    *("lrp_epsilon", "lrp_alpha2_beta1", "lrp_epsilon_plus_flat", "occlusion"),
)


def saliency_methods(names: str = "all", size: int = 40) -> dict[str, Any]:
    """Return methods by name.

    Args:
        names: of :func:`ppi_med.saliency.by_name`, commas between, or "all" of :data:`METHODS`.
        size: rows and columns of the network's images, from which the occluding window follows.

    Raises:
        UsageError: there is no such method.

    Examples:
        >>> list(saliency_methods("wbp,gradcam"))
        ['wbp', 'gradcam']
    """
    wanted = METHODS if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    windows = {"window": max(2, size // 8), "stride": max(1, size // 16)}
    return {n: saliency.by_name(n, **(windows if n == "occlusion" else {})) for n in wanted}
