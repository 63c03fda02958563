"""The saliency methods of the comparison by name, and controls that do not see the network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.errors import UsageError
from ppi_med.evaluation.faithfulness import random_values
from ppi_med.evaluation.measures import MapMethod
from ppi_med.saliency import by_name

REFERENCE = "wbp"
# Least and largest value that a channel of a prepared image can have.
Range = tuple[list[float], list[float]]

CONTROLS = ("random", "centre", "edges")
METHODS = (
    *(REFERENCE, "gradient", "gradient_absolute", "gradient_x_input", "integrated_gradients"),
    *("smoothgrad", "gradcam", "gradcam_plus_plus", "lrp_epsilon", "lrp_gamma"),
    *("lrp_alpha2_beta1", "lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "occlusion"),
    *CONTROLS,
)


def map_method(name: str, bounds: Range) -> MapMethod:
    """Return a method or a control by name.

    Args:
        name: one of :data:`METHODS`.
        bounds: of a prepared image's channels, for the LRP rule that needs them.

    Raises:
        UsageError: there is no such method.

    Examples:
        >>> type(map_method("wbp", ([0.0], [1.0]))).__name__
        'WBP'
    """
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}: choose from {', '.join(METHODS)}.")
    controls = dict(zip(CONTROLS, (random_map, centre_map, edge_map), strict=True))
    if name in controls:
        return controls[name]
    low, high = bounds
    options: dict[str, dict[str, Any]] = {
        "lrp_epsilon_gamma_box": {"low": low, "high": high},
        "occlusion": {"window": 56, "stride": 28},
    }
    return by_name(name, **options.get(name, {}))


def random_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return random values: pixels in no order."""
    return random_values(image, seed=0).unsqueeze(1).expand_as(image) / image.shape[1]


def centre_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return values that fall with the distance from the image's centre."""
    axes = [torch.linspace(-1, 1, size, device=image.device) for size in image.shape[2:]]
    distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    return torch.exp(-2 * distance).to(image.dtype).expand_as(image)


def edge_map(network: Any, image: Tensor, target: Tensor) -> Tensor:
    """Return the absolute response of an edge filter: it draws the image, not the network."""
    kernel = torch.full((1, 1, 3, 3), -1.0, dtype=image.dtype, device=image.device)
    kernel[0, 0, 1, 1] = 8.0
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    channels = image.shape[1]
    return F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels).abs()
