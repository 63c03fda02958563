"""What a report says, in arrays and plain texts; nothing of it is markup."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportContent:
    """The content of one report.

    Attributes:
        finding: what the probability is of, such as "geographic atrophy".
        source: name of the file.
        probability: in [0, 1].
        pixels: uint8, `(S, H, W)`.
        weights: of the B-scans, summing to 1, `(S,)`.
        slice_probabilities: of the B-scans, each for itself, `(S,)`.
        saliency: float32 of the pixels' shape, or `None`.
        spacing_mm: lateral, axial, between B-scans; `None` where unknown.
        facts: label and value of the table's rows.
        warnings: sentences.
        notes: sentences.
        map_grid: (depth, width) on which the map was computed, if not the pixels' own.
        map_caption: a sentence on what the map shows.

    Raises:
        ValueError: if the parts do not fit each other.

    Examples:
        >>> content = ReportContent(
        ...     "geographic atrophy", "a.mat", 0.5, np.zeros((2, 4, 3), np.uint8),
        ...     np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        >>> content.saliency is None
        True
    """

    finding: str
    source: str
    probability: float
    pixels: NDArray[np.uint8]
    weights: NDArray[np.floating]
    slice_probabilities: NDArray[np.floating]
    saliency: NDArray[np.float32] | None = None
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    map_grid: tuple[int, int] | None = None
    map_caption: str = ""

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3 or 0 in shape or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}, expected uint8 (S, H, W).")
        for name in ("weights", "slice_probabilities"):
            got = getattr(self, name).shape
            if got != (shape[0],):
                raise ValueError(f"{name} has the shape {got}, expected one a slice, {shape[:1]}.")
        if self.saliency is not None and self.saliency.shape != shape:
            raise ValueError(f"the map has the shape {self.saliency.shape}, expected {shape}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}, expected 0 to 1.")
