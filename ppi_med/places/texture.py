"""Does the texture of the whole image tell the class? A shortcut without a place, and its cutoff.

A device writes its sharpness and its noise into every part of an image. A disease has its place.
So the label is predicted from the fine detail of one cell of a grid at a time: where most cells
predict it, the fine detail is the device's. Smoothing takes it away, in training and afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ppi_med.evaluation.metrics import AUC
from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.places.judge import discriminant, unit_means
from ppi_med.places.stack import ImageStack

CELLS = 8
"""Cells of the grid along each side."""
THRESHOLD = 0.74
"""Median AUC of the cells from which on the texture is the device's."""
SILENT = 0.70
"""Median AUC of the cells below which what is left of the texture no longer tells the class."""
_LADDER = (1.0, 2.0, 4.0, 8.0)
_BANDS = (1.0, 2.0, 4.0)
_SIDE = 128.0
_FOLDS = 4
_MOST_UNITS = 600


@dataclass(frozen=True)
class Texture:
    """How well the fine detail of each cell tells the class, in folds of patients.

    Attributes:
        cells: AUC of each cell of the grid, ``(8, 8)``.
        left: sigma of the smoothing in pixels -> median AUC of the cells after it; 0: as they are.
        sigma: the least smoothing in pixels after which the texture is silent; None where it is not
            the device's, or where no smoothing silences it.
    """

    cells: NDArray[np.float64]
    left: dict[float, float]
    sigma: float | None

    @property
    def median(self) -> float:
        """The median AUC of the cells, images as they are."""
        return float(np.median(self.cells))

    @property
    def shortcut(self) -> bool:
        """Whether the texture of the whole image tells the class."""
        return self.median >= THRESHOLD


def texture(stack: ImageStack, *, seed: int = 0) -> Texture:
    """Measure how well each cell's fine detail tells the class, and what smoothing silences it.

    The detail of a cell is the logarithm of its mean energy in three bands: of the differences
    between the image smoothed with sigma 0, 1, 2 and 4 (in pixels of an image 128 pixels high).
    A linear discriminant predicts the class from the three numbers, patients in four folds. With
    more than two classes the AUC is the mean of each class against the rest.

    Args:
        stack: of the training part; of more than 600 units as many are drawn.
        seed: of the folds and of that draw.

    Returns:
        The AUC of each cell, and the smoothing that silences them.

    Examples:
        >>> label = torch.arange(60) % 2
        >>> noise = torch.randn(60, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> image = noise * (1 + label).view(-1, 1, 1, 1)
        >>> index = torch.arange(60)
        >>> texture(ImageStack(image, label, index, torch.zeros_like(index))).shortcut
        True
    """
    chosen = _drawn(stack, seed)
    side = min(stack.image.shape[-2:]) / _SIDE
    folds = _folds(chosen, seed)
    cells = _cells(chosen, 0.0, side, folds)
    left, sigma = {0.0: float(np.median(cells))}, None
    if left[0.0] >= THRESHOLD:
        for step in _LADDER:
            left[step * side] = float(np.median(_cells(chosen, step * side, side, folds)))
            if left[step * side] < SILENT:
                sigma = step * side
                break
    return Texture(cells, left, sigma)


def smoothed(image: Tensor, sigma: float) -> Tensor:
    """Return images ``(N, C, *spatial)`` smoothed along their last two axes; sigma in pixels."""
    return gaussian_smooth(image, sigma, 2).to(image.dtype) if sigma > 0 else image


def _drawn(stack: ImageStack, seed: int) -> ImageStack:
    units = len(stack.unit_label)
    if units <= _MOST_UNITS:
        return stack
    kept = torch.randperm(units, generator=torch.Generator().manual_seed(seed))[:_MOST_UNITS]
    return stack.chosen(torch.isin(stack.unit_index, kept))


def _folds(stack: ImageStack, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image; a patient's images are in one."""
    patient = stack.unit if stack.patient is None else stack.patient
    index = patient.unique(return_inverse=True)[1].numpy()
    order = np.random.default_rng(seed).permutation(index.max() + 1)
    return (order % _FOLDS)[index].astype(np.int64)


def _cells(
    stack: ImageStack, sigma: float, side: float, folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the AUC of each cell after a smoothing with sigma."""
    detail = torch.cat(list(_detail(stack, sigma, side)))
    scores = np.zeros((len(detail), detail.shape[2], 1 if stack.classes == 2 else stack.classes))
    for fold in range(_FOLDS):
        test = torch.from_numpy(folds == fold)
        if not bool(test.any()) or len(stack.label[~test].unique()) < 2:
            continue
        for cell in range(detail.shape[2]):
            train = detail[~test][:, :, cell]
            weights, offsets = discriminant(train, stack.label[~test], stack.classes)
            scores[test.numpy(), cell] = (detail[test][:, :, cell] @ weights + offsets).numpy()
    unit, label = stack.unit_index.numpy(), stack.unit_label.numpy()
    found = [_auc(label, unit_means(scores[:, cell], unit)) for cell in range(scores.shape[1])]
    return np.asarray(found).reshape(CELLS, CELLS)


def _detail(stack: ImageStack, sigma: float, side: float) -> Iterator[Tensor]:
    """Yield the logarithms of the bands' energy in each cell, float64 ``(N, 3 C, 64)``."""
    for part in stack.batches(128):
        finer, energies = smoothed(stack.image[part].float().cpu(), sigma), []
        for band in _BANDS:
            coarser = smoothed(finer, band * side)
            energies.append(adaptive_avg_pool2d((finer - coarser).square(), CELLS).flatten(2))
            finer = coarser
        yield torch.cat(energies, 1).double().add(1e-6).log()


def _auc(label: NDArray[np.int64], means: NDArray[np.float64]) -> float:
    if means.shape[1] == 1:
        return float(AUC(label, means[:, 0]))
    present = [k for k in range(means.shape[1]) if 0 < (label == k).sum() < len(label)]
    return float(np.mean([AUC((label == k).astype(np.int64), means[:, k]) for k in present]))
