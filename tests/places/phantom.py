"""Volumes and images whose shortcut is known, drawn quickly."""

from __future__ import annotations

import numpy as np
import torch

from ppi_med.places import ImageStack

SIZE, SLICES = 24, 6
MARK = (slice(2, 6), slice(15, 21))


def volumes(
    count: int, agreement: float | None, seed: int, mark: tuple[slice, slice] = MARK
) -> ImageStack:
    """Noise with a faint blob that moves from eye to eye in half of a sick volume's B-scans."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.3, (count, SLICES, SIZE, SIZE))
    label = np.arange(count) % 2
    for volume in np.flatnonzero(label):
        row, column = rng.integers(8, 18), rng.integers(2, 18)
        image[volume, rng.permutation(SLICES)[:3], row : row + 4, column : column + 4] += 0.5
    if agreement is not None:
        marked = np.where(rng.random(count) < agreement, label, 1 - label) == 1
        image[np.ix_(marked, range(SLICES), range(SIZE)[mark[0]], range(SIZE)[mark[1]])] = 1.5
    return ImageStack(
        torch.from_numpy(image.reshape(-1, 1, SIZE, SIZE)).float(),
        torch.from_numpy(np.repeat(label, SLICES)),
        torch.arange(count).repeat_interleave(SLICES),
        torch.arange(SLICES).repeat(count),
    )


def images(count: int, marked: float | None, seed: int) -> ImageStack:
    """2-D images: a blob in the middle that is brighter in class 1; maybe a mark with it."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.3, (count, 1, SIZE, SIZE))
    label = np.arange(count) % 2
    strength = rng.normal(0.5 + 0.9 * label, 0.3)
    image[:, 0, 9:15, 9:15] += strength[:, None, None]
    if marked is not None:
        has = np.where(rng.random(count) < marked, label, 1 - label) == 1
        image[np.ix_(has, [0], range(SIZE)[MARK[0]], range(SIZE)[MARK[1]])] = 1.5
    index = torch.arange(count)
    return ImageStack(
        torch.from_numpy(image).float(), torch.from_numpy(label), index, torch.zeros_like(index)
    )
