"""From the map of a classifier to a mask, and the quality of the mask.

- `masking`: map to mask by a rule, and along the image's edges.
- `scores`: Dice, IoU, HD95 in mm.
- `grid`: the square of an image that a network sees, and the mapping back.
- `network`: the network of a bundle and its saliency methods, for images of some dozen pixels per
  side.

The study on LIDC's nodules is `ppi_med.experiments.weak_segmentation`.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(("MaskRule", "map_to_mask"), "masking"),
        **dict.fromkeys(("score_case", "scores_against"), "scores"),
        "NetworkGrid": "grid",
        **dict.fromkeys(("load_network", "saliency_methods"), "network"),
    },
)
