"""The square of a patch that a network sees, and the mapping back to the patch's pixels.

A network takes images of one size in pixels that show a square of one size in mm. Masks are
compared on the patch's own pixels, so the map is mapped back to these; image and masks are
unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ppi_med.data.lidc.datasets import CropMode, crop_start

Spacing = tuple[float, float]
Normalise = Callable[[Tensor], Tensor]
Method = Callable[[Any, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Window:
    """A square of whole pixels of a patch.

    Attributes:
        start: first row and column.
        side: rows and columns.
        middle: middle of the square in mm that the network sees, in rows and columns of the patch.
    """

    start: tuple[int, int]
    side: int
    middle: tuple[float, float]

    def cut(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the square of an array `(..., rows, columns)`."""
        (row, column), side = self.start, self.side
        return values[..., row : row + side, column : column + side]


@dataclass(frozen=True)
class NetworkGrid:
    """The grid of a network's images.

    Attributes:
        size: rows and columns.
        field_mm: side of the square that they show; None: the whole patch.

    Raises:
        ValueError: if one of them is not positive.
    """

    size: int
    field_mm: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or (self.field_mm is not None and self.field_mm <= 0):
            raise ValueError(
                f"Got size={self.size} and field_mm={self.field_mm}, expected both above 0."
            )

    def window(
        self,
        union: NDArray[np.uint8],
        spacing_mm: Spacing,
        mode: CropMode = "centred",
        *,
        seed: int = 0,
        name: str = "",
    ) -> Window:
        """Return the window of a patch.

        Args:
            union: `(rows, columns)`, the lesion; a shifted window must contain it.
            spacing_mm: between rows, between columns.
            mode: "centred", or "shifted": the lesion is anywhere in the window, always at the same
                place for the same seed and name.
            seed: seed of the shifts.
            name: name of the patch.
        """
        side = min(union.shape)
        if self.field_mm is not None:
            side = max(1, min(side, round(self.field_mm / max(spacing_mm))))
        start = crop_start(union, side, mode, seed=seed, name=name)
        if mode == "centred":
            return Window(start, side, (float(union.shape[0] // 2), float(union.shape[1] // 2)))
        return Window(start, side, (start[0] + (side - 1) / 2, start[1] + (side - 1) / 2))

    def image(self, patch: Tensor, spacing_mm: Spacing, window: Window) -> Tensor:
        """Return the network's image `(C, size, size)` of a patch `(C, rows, columns)`.

        Values outside the patch are 0; in between, pixels are interpolated linearly.
        """
        steps = (torch.arange(self.size, dtype=torch.float64) + 0.5) * 2 / self.size - 1
        field = self._field(patch.shape[-2:], spacing_mm)
        axes = [
            (2 * (middle + steps * field / 2 / mm) + 1) / length - 1
            for middle, mm, length in zip(window.middle, spacing_mm, patch.shape[-2:], strict=True)
        ]
        return _sampled(patch, axes, "zeros")

    def back(
        self, values: Tensor, shape: tuple[int, int], spacing_mm: Spacing, window: Window
    ) -> Tensor:
        """Return a map `(C, size, size)` on the window's pixels, `(C, side, side)`.

        Args:
            values: map on the network's grid; the rest of the window becomes 0.
            shape: rows and columns of the patch.
            spacing_mm: spacing of the patch.
            window: from `window`.
        """
        pixels = torch.arange(window.side, dtype=torch.float64)
        field = self._field(shape, spacing_mm)
        axes = [
            (first + pixels - middle) * mm * 2 / field
            for first, middle, mm in zip(window.start, window.middle, spacing_mm, strict=True)
        ]
        found = _sampled(values, axes, "border")
        # At an edge of a slice the window is larger than what the network saw.
        rows, columns = (
            place.abs() <= 1 + 2 * mm / field for place, mm in zip(axes, spacing_mm, strict=True)
        )
        return found * (rows[:, None] & columns[None, :])

    def _field(self, shape: tuple[int, ...] | torch.Size, spacing_mm: Spacing) -> float:
        extent = [length * mm for length, mm in zip(shape, spacing_mm, strict=True)]
        return max(extent) if self.field_mm is None else self.field_mm


def _sampled(values: Tensor, axes: list[Tensor], padding: str) -> Tensor:
    """Return values at rows x columns, each from -1 to 1 over the extent of the pixels."""
    rows, columns = torch.meshgrid(axes[0], axes[1], indexing="ij")
    grid = torch.stack([columns, rows], dim=-1)[None].to(values.dtype)
    return F.grid_sample(values[None], grid, padding_mode=padding, align_corners=False)[0]


def normalised_ct(hu: Tensor) -> Tensor:
    """Return HU in the scale of the bundle `lidc_ppi`: 0 is lung.

    Examples:
        >>> normalised_ct(torch.tensor([-2000.0, -850.0, 0.0])).tolist()
        [0.0, 0.0, 2.125]
    """
    values = (hu.clamp(-1000.0, 400.0) + 850.0) / 400.0
    return torch.where(hu <= -2000.0, torch.zeros_like(values), values)


def positive_score(positive: int = 1) -> Callable[[Any], Tensor]:
    """Return a target: the logit of the positive class, or the only one.

    Examples:
        >>> positive_score()(torch.tensor([[0.5, 2.0]])).item()
        2.0
    """

    def score(output: Any) -> Tensor:
        logits = getattr(output, "logits", output)
        return torch.as_tensor(logits[:, positive if logits.shape[1] > 1 else 0])

    return score
