"""Moving a mask's border to the edges of the image: a random walk from the map's seeds.

The random walker (Grady 2006) is scikit-image's. GrabCut is not offered: it would need OpenCV,
which nothing else here does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ppi_med.segmentation.masking import Mask, Values


def random_walk(
    mask: Mask,
    values: Values,
    image: NDArray[np.float64],
    beta: float = 130.0,
    margin: int = 3,
) -> Mask:
    """Return the pixels from which a random walk reaches the object's seeds first.

    Seeds of the object: the stronger half of the map inside the mask. Seeds of the background: all
    that is more than `margin` pixels from the mask. What lies between is decided by the image.

    Args:
        mask: of the map.
        values: the smoothed map.
        image: of the same shape, in about 0 to 1.
        beta: the larger, the harder an edge is to cross.
        margin: in pixels.

    Returns:
        The mask; as given where it is empty, leaves no background, or the image has no edges.

    Raises:
        ValueError: for shapes that differ.

    Examples:
        >>> image = np.zeros((9, 9)); image[3:6, 3:6] = 1
        >>> hint = np.zeros((9, 9), bool); hint[4, 3:5] = True
        >>> found = random_walk(hint, hint * 1.0, image, beta=1000)
        >>> bool((found == (image > 0)).all())
        True
    """
    if not mask.shape == values.shape == image.shape:
        raise ValueError(
            f"Got a mask of {mask.shape}, a map of {values.shape} and an image of {image.shape}, "
            "expected one shape."
        )
    if not mask.any() or image.std() == 0:
        return mask
    from scipy.ndimage import binary_dilation, generate_binary_structure
    from skimage.segmentation import random_walker

    near = binary_dilation(mask, generate_binary_structure(mask.ndim, mask.ndim), margin)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[~near] = 1
    seeds[mask & (values >= np.median(values[mask]))] = 2
    if not (seeds == 1).any() or not (seeds == 0).any():
        return mask
    found = random_walker(image, seeds, beta=beta, mode="bf")
    return np.asarray(found == 2)
