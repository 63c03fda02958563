"""The data of a step: the altered images x* and x', and the terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONTRASTS = ("con", "ad")


@dataclass(frozen=True)
class Contrast:
    """One kind of altered images.

    Attributes:
        image: `(N, C, *spatial)`, x* (for L_con) or x' (for L_ad).
        mask: what was removed, in [0, 1], broadcastable to the image.
    """

    image: Tensor
    mask: Tensor

    @property
    def removed(self) -> Tensor:
        """1.0 for each sample whose mask reaches 0.5 anywhere, else 0.0; `(N,)`, no gradient."""
        peak = self.mask.detach().flatten(1).amax(1)
        return (peak >= 0.5).to(peak.dtype).expand(self.image.shape[0])


@dataclass(frozen=True)
class Contrasts:
    """The altered images of one step, in the order in which they are stacked in `batch`.

    Attributes:
        parts: `con` -> x*, `ad` -> x' (only one if they alternate).
        saliency: the saliency that they were made from.
        saliency_map: its normalised map, `(N, 1, *spatial)`.
        classes: class index of each sample, `(N,)` int64.
    """

    parts: dict[str, Contrast]
    saliency: Tensor
    saliency_map: Tensor
    classes: Tensor

    @property
    def batch(self) -> Tensor:
        """All altered images in one batch for one forward, `(N or 2N, C, *spatial)`.

        Raises:
            ValueError: this step has no contrast.
        """
        if not self.parts:
            raise ValueError("this step has no contrast: skip the forward of altered images.")
        return torch.cat([part.image for part in self.parts.values()])

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs of `batch`, `(N or 2N, K)`, by the name of their contrast.

        Raises:
            ValueError: the number of outputs is not that of the altered images.
        """
        size = self.classes.shape[0]
        if outputs.shape[0] != size * len(self.parts):
            raise ValueError(
                f"got {outputs.shape[0]} outputs for {len(self.parts)} x {size} altered images: "
                "pass the network's output on contrasts.batch."
            )
        return dict(zip(self.parts, outputs.split(size), strict=True)) if self.parts else {}


@dataclass(frozen=True)
class TermsResult:
    """What PPI adds to the loss of one step.

    Attributes:
        total: the weighted sum, a scalar to add to L_cls.
        values: `con`, `ad`, `reg` (those of this step) -> the term, not weighted, no gradient.
        weights: the same names -> its weight.
        removed: `con`, `ad` -> the mean share of the image that was removed, no gradient.
    """

    total: Tensor
    values: dict[str, Tensor]
    weights: dict[str, float | Tensor]
    removed: dict[str, Tensor]
