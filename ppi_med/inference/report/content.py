"""What a report says, in arrays and plain texts; nothing of it is markup."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Point:
    """A place in a slice that the page marks.

    Attributes:
        slice: its number, from 0.
        row: in pixels from the upper edge, 0 in the centre of the first.
        column: in pixels from the left edge.
        text: what is there.
    """

    slice: int
    row: float
    column: float
    text: str = ""


@dataclass(frozen=True)
class ReportContent:
    """The content of one report.

    Attributes:
        finding: what the probability is of, such as "geographic atrophy".
        source: name of the file.
        probability: in [0, 1].
        pixels: uint8, `(S, H, W)`.
        weights: weights of the slices, summing to 1, `(S,)`; `None` where each is an answer of its
            own.
        slice_probabilities: probabilities of the slices, each for itself, `(S,)`.
        saliency: float32 of the pixels' shape, or `None`.
        spacing_mm: between columns, rows and slices; `None` where unknown.
        facts: label and value of the table's rows.
        warnings: sentences.
        notes: sentences.
        map_grid: (depth, width) on which the map was computed, if not the pixels' own.
        map_caption: a sentence on what the map shows.
        modality: in the heading.
        slice_name: what a slice is called.
        slice_titles: a name for each slice, shown with it; none by default.
        points: places to mark.
        front: show the mean over the rows, as a view from the front.
        about: what the probability is of, as a sentence.
        shortcut: what the training found of a shortcut and did about it, as a sentence.
        place: where that was, bool `(H, W)` of the pixels' own grid; `None` where nowhere.

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
    weights: NDArray[np.floating] | None
    slice_probabilities: NDArray[np.floating]
    saliency: NDArray[np.float32] | None = None
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    map_grid: tuple[int, int] | None = None
    map_caption: str = ""
    modality: str = "OCT"
    slice_name: str = "B-scan"
    slice_titles: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    front: bool = True
    about: str = (
        "a neural network’s estimate for the whole volume, the weighted mean of its B-scans’ own "
        "probabilities."
    )
    shortcut: str = ""
    place: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3 or 0 in shape or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}, expected uint8 (S, H, W).")
        for name in ("weights", "slice_probabilities"):
            values = getattr(self, name)
            if values is not None and values.shape != (shape[0],):
                raise ValueError(
                    f"{name} has the shape {values.shape}, expected one per slice, {shape[:1]}."
                )
        if self.slice_titles and len(self.slice_titles) != shape[0]:
            raise ValueError(
                f"{len(self.slice_titles)} titles, expected one per slice, {shape[0]}."
            )
        if self.saliency is not None and self.saliency.shape != shape:
            raise ValueError(f"the map has the shape {self.saliency.shape}, expected {shape}.")
        if self.place is not None and self.place.shape != shape[1:]:
            raise ValueError(f"the place is {self.place.shape}, expected (H, W), {shape[1:]}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}, expected 0 to 1.")
