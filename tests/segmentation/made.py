"""Made-up cases: a bright disc in each patch, drawn by two or three readers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med.experiments.weak_segmentation.cases import Case, case_of

SIZE = 31


def disc(row: float, column: float, radius: float, size: int = SIZE) -> np.ndarray:
    rows, columns = np.indices((size, size))
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def made_case(number: int, part: str, *, spacing: float = 0.7, subject: str = "") -> Case:
    rng = np.random.default_rng(number)
    radius = float(rng.uniform(3, 6))
    readers = np.zeros((4, SIZE, SIZE), np.uint8)
    readers[0] = disc(15, 15, radius)
    readers[2] = disc(15, 15, radius + 1)
    union = readers.any(axis=0)
    hu = np.where(readers[0] > 0, 30.0, -850.0) + rng.normal(0, 30, (SIZE, SIZE))
    return case_of(
        {
            "image": hu[None],
            "readers": readers,
            "state": np.array([2, 1, 2, 0]),
            "union": union[None],
            "majority": union[None],
            "spacing_mm": spacing,
            "volume_id": f"c{number:03}",
            "subject": subject or f"p{number // 2}",
            "label": number % 2,
        },
        part,
    )


def made_cases(validation: int = 4, test: int = 5) -> list[Case]:
    first = [made_case(n, "validation") for n in range(validation)]
    return first + [made_case(n, "test") for n in range(100, 100 + test)]


class BrightSum(nn.Module):
    """A logit whose gradient x input is the image itself: the map lies on the disc."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(outputs))

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1).sum(1, keepdim=True) * self.scale
