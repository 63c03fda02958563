"""Whether the texture of the whole image predicts the class: a shortcut without a place, its cure.

A device writes its sharpness, its noise and its grey curve into every part of an image. A disease
has its place. So the label is predicted from the fine detail of one cell of a grid at a time: where
most cells predict it, the detail is the device's. Equalised grey levels or smoothing remove it, in
training and afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ppi_med.errors import UsageError
from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.places.exchange import EvenOutside, levelled, quantiles
from ppi_med.places.judge import discriminant, mean_auc, unit_means
from ppi_med.places.marks import MovingMark
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
_BATCH = 128


@dataclass(frozen=True, eq=False)
class Neutral:
    """Removes a device's texture, or its marks that move, from images.

    Attributes:
        sigma: standard deviation of a smoothing along the last two axes, in pixels; 0: no
            smoothing.
        levels: quantiles `(C, 33)` that each image's grey values are moved to first, piecewise
            linearly; None: they stay.
        marks: marks that are filled from around them, before all else.
        even: brings the grey values outside a place to one mean and deviation, after the marks.

    Examples:
        >>> Neutral(2.0).name
        'smoothed by 2 pixels'
        >>> even = torch.linspace(0, 1, 33)
        >>> curved = even.square().view(1, 1, 1, 33)
        >>> Neutral(levels=even[None])(curved).flatten()[::16].tolist()
        [0.0, 0.5, 1.0]
    """

    sigma: float = 0.0
    levels: Tensor | None = None
    marks: tuple[MovingMark, ...] = ()
    even: EvenOutside | None = None

    @property
    def name(self) -> str:
        """The change, in words."""
        done = ["marks filled"] if self.marks else []
        done += ["brightness and contrast made alike"] if self.even is not None else []
        done += ["grey levels made alike"] if self.levels is not None else []
        done += [f"smoothed by {self.sigma:g} pixels"] if self.sigma > 0 else []
        return ", ".join(done) or "as they are"

    @property
    def of_texture(self) -> bool:
        """Whether it changes the texture: grey levels or smoothing."""
        return self.levels is not None or self.sigma > 0

    def __call__(self, image: Tensor) -> Tensor:
        """Return images `(N, C, *spatial)` without the texture and the marks."""
        for mark in self.marks:
            image = mark.without(image)
        if self.even is not None:
            image = self.even(image)
        if self.levels is not None:
            image = torch.stack([levelled(one, self.levels) for one in image])
        return gaussian_smooth(image, self.sigma, 2).to(image.dtype) if self.sigma > 0 else image

    def hook(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Act as a network's forward pre-hook: it sees images without the texture."""
        return (self(inputs[0]), *inputs[1:])

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        levels = None if self.levels is None else self.levels.tolist()
        marks = [mark.facts() for mark in self.marks]
        even = None if self.even is None else self.even.facts()
        return {"sigma": self.sigma, "levels": levels, "marks": marks, "even": even}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Neutral:
        """Return what `facts` described.

        Raises:
            UsageError: if it is something else.
        """
        try:
            sigma, levels = float(facts["sigma"]), facts["levels"]
            found = None if levels is None else torch.tensor(levels, dtype=torch.float32)
            if not 0 <= sigma < 1e4 or (found is not None and found.ndim != 2):
                raise ValueError(f"sigma {sigma}")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"what takes the texture away cannot be read beside the weights ({error}): copy "
                "both files again."
            ) from error
        marks = tuple(MovingMark.of(mark) for mark in facts.get("marks", ()))
        even = EvenOutside.of(facts["even"]) if facts.get("even") else None
        return cls(sigma, found, marks, even)

    def changed(self, stack: ImageStack) -> ImageStack:
        """Return a stack without the texture and the marks; grey levels are those of its units."""
        image = stack.image.float().cpu()
        for mark in self.marks:
            image = torch.cat([mark.without(part) for part in image.split(_BATCH)])
        if self.even is not None or self.levels is not None:
            image = image.clone()
            whole = replace(self, sigma=0.0, marks=())
            for k in range(len(stack.unit_label)):
                own = stack.unit_index == k
                image[own] = whole(image[own].transpose(0, 1)[None])[0].transpose(0, 1)
        return replace(stack, image=Neutral(self.sigma)(image))


@dataclass(frozen=True, eq=False)
class Texture:
    """How well the fine detail of each cell predicts the class, in folds of patients.

    Attributes:
        cells: AUC of each cell of the grid, `(8, 8)`.
        left: what is done to the images -> median AUC of the cells after it, in the order tried.
        neutral: the mildest of these after which the texture is silent, else the one that leaves
            least, if it would no longer be named; None if there is none, or no such texture.
    """

    cells: NDArray[np.float64]
    left: dict[str, float]
    neutral: Neutral | None

    @property
    def median(self) -> float:
        """The median AUC of the cells, images as they are."""
        return float(np.median(self.cells))

    @property
    def shortcut(self) -> bool:
        """Whether the texture of the whole image predicts the class."""
        return self.median >= THRESHOLD

    @property
    def everywhere(self) -> bool:
        """Whether it does so away from the border too, where a dark frame or aperture ends."""
        return self.shortcut and float(np.median(self.cells[1:-1, 1:-1])) >= THRESHOLD


def texture(stack: ImageStack, *, seed: int = 0) -> Texture:
    """Measure how well each cell's fine detail predicts the class, and what removes that.

    The detail of a cell is the logarithm of its mean energy in three bands: of the differences
    between the image smoothed with sigma 0, 1, 2 and 4 (in pixels of an image 128 pixels high).
    A linear discriminant predicts the class from the three numbers, patients in four folds. With
    more than two classes the AUC is the mean of each class against the rest. What is tried against
    it, mildest first: equalised grey levels; smoothing with sigma 1, 2, 4, 8; both.

    Args:
        stack: stack of the training part; of more than 600 units as many are drawn.
        seed: seed of the folds and of that draw.

    Returns:
        The AUC of each cell, and the change that removes the texture.

    Examples:
        >>> label = torch.arange(60) % 2
        >>> noise = torch.randn(60, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> index = torch.arange(60)
        >>> found = texture(
        ...     ImageStack(noise * (1 + label).view(-1, 1, 1, 1), label, index, 0 * index)
        ... )
        >>> found.shortcut, found.neutral.name
        (True, 'grey levels made alike')
    """
    chosen = _drawn(stack, seed)
    side = min(stack.image.shape[-2:]) / _SIDE
    folds = _folds(chosen, seed)
    cells = _cells(chosen, side, folds)
    left = {Neutral().name: float(np.median(cells))}
    best, least = None, THRESHOLD
    if np.median(cells) >= THRESHOLD:
        for neutral in _tries(chosen, side):
            after = float(np.median(_cells(neutral.changed(chosen), side, folds)))
            left[neutral.name] = after
            if after < SILENT:
                return Texture(cells, left, neutral)
            if after < least:
                best, least = neutral, after
    return Texture(cells, left, best)


def common_levels(stack: ImageStack) -> Tensor:
    """Return the mean over units of 33 quantiles of each channel's values, `(C, 33)`."""
    units = [stack.image[stack.unit_index == k] for k in range(len(stack.unit_label))]
    return torch.stack([quantiles(unit.transpose(0, 1).float()) for unit in units]).mean(0)


def _tries(stack: ImageStack, side: float) -> Iterator[Neutral]:
    levels = Neutral(levels=common_levels(stack))
    yield levels
    yield from (Neutral(sigma * side) for sigma in _LADDER)
    yield from (replace(levels, sigma=sigma * side) for sigma in _LADDER)


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
    fold: NDArray[np.int64] = (order % _FOLDS)[index]
    return fold


def _cells(stack: ImageStack, side: float, folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AUC of each cell."""
    detail = torch.cat(list(_detail(stack, side)))
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
    found = [mean_auc(label, unit_means(scores[:, cell], unit)) for cell in range(scores.shape[1])]
    return np.asarray(found).reshape(CELLS, CELLS)


def _detail(stack: ImageStack, side: float) -> Iterator[Tensor]:
    """Yield the logarithms of the bands' energy in each cell, float64 `(N, 3 C, 64)`."""
    for part in stack.batches(128):
        finer, energies = stack.image[part].float().cpu(), []
        for band in _BANDS:
            coarser = gaussian_smooth(finer, band * side, 2)
            energies.append(adaptive_avg_pool2d((finer - coarser).square(), CELLS).flatten(2))
            finer = coarser
        yield torch.cat(energies, 1).double().add(1e-6).log()
