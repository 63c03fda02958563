"""Whether a place is an artefact, by numbers from the training and validation parts only.

A scanner's mark is in every B-scan of a volume, and the same in every eye. A lesion is in some
B-scans, elsewhere in each eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ppi_med.evaluation.metrics import AUC
from ppi_med.places.stack import ImageStack

_FEATURES = 600


@dataclass(frozen=True)
class Verdict:
    """How well scores of single images predict the class, and how alike a unit's scores are.

    Attributes:
        auc: AUC of the units' mean scores; with more than two classes the mean of one against the
            rest.
        icc: variance of the units' means over the variance of the images, 0 to 1; in 2-D the
            constancy of the content.
    """

    auc: float
    icc: float

    @property
    def j(self) -> float:
        """J = max(0, 2 AUC - 1) ICC."""
        return max(0.0, 2 * self.auc - 1) * self.icc


def unit_means(scores: NDArray[np.float64], unit: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each unit's scores; scores `(M, K)`, units from 0 without gaps."""
    count = np.bincount(unit)
    sums = [np.bincount(unit, weights=column) for column in scores.T]
    return np.stack(sums, 1) / count[:, None]


def verdict(stack: ImageStack, scores: Tensor) -> Verdict:
    """Judge scores `(M, K)` of a stack's images: AUC of units' means, ICC = V(means) / V(images).

    Args:
        stack: usually of the validation part.
        scores: one for each class, or one column for class 1 of two.
    """
    values = scores.detach().double().cpu().numpy()
    unit = stack.unit_index.cpu().numpy()
    means = unit_means(values, unit)
    label = stack.unit_label.cpu().numpy()
    return Verdict(mean_auc(label, means), _icc(values, means))


def interval(
    stack: ImageStack, scores: Tensor, *, repeats: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of J of these scores, from units drawn again with replacement."""
    values = scores.detach().double().cpu().numpy()
    unit = stack.unit_index.cpu().numpy()
    label = stack.unit_label.cpu().numpy()
    means = unit_means(values, unit)
    squares = unit_means(values**2, unit)
    count = np.bincount(unit).astype(float)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(repeats):
        chosen = rng.integers(len(label), size=len(label))
        if len(np.unique(label[chosen])) < 2:
            continue
        weight = count[chosen][:, None] / count[chosen].sum()
        centre = (weight * means[chosen]).sum(0)
        total = (weight * squares[chosen]).sum(0) - centre**2
        between = means[chosen].var(0)
        icc = float(np.mean(np.clip(between / np.maximum(total, 1e-12), 0, 1)))
        drawn.append(Verdict(mean_auc(label[chosen], means[chosen]), icc).j)
    if not drawn:
        return 0.0, 1.0
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def mean_auc(label: NDArray[np.int64], means: NDArray[np.float64]) -> float:
    """Return the AUC of scores `(U, 1)`; of `(U, K)` the mean of each class against the rest."""
    if means.shape[1] == 1:
        both = len(np.unique(label)) == 2
        return float(AUC(label, means[:, 0])) if both else 0.5
    present = [k for k in range(means.shape[1]) if 0 < (label == k).sum() < len(label)]
    found = [AUC((label == k).astype(np.int64), means[:, k]) for k in present]
    return float(np.mean(found)) if found else 0.5


def _icc(values: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    total = np.maximum(values.var(0), 1e-12)
    return float(np.mean(np.clip(means.var(0) / total, 0, 1)))


def content(stack: ImageStack, place: Tensor) -> Tensor:
    """Return the place's content of each image, float64 `(M, D)`, D at most about 600.

    Where the place has more pixels times channels, neighbours are averaged.
    """
    image, mask = stack.image, place
    while int(mask.sum()) * image.shape[1] > _FEATURES and min(mask.shape) >= 4:
        image = avg_pool2d(image, 2, ceil_mode=True)
        mask = avg_pool2d(mask[None, None].float(), 2, ceil_mode=True)[0, 0] >= 0.5
    if not bool(mask.any()):
        mask = torch.ones_like(mask)
    return image[:, :, mask].flatten(1).double().cpu()


def discriminant(train: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    r"""Fit a linear discriminant with shrinkage.

    The pooled covariance is C + 0.1 tr(C) / d I.

    Args:
        train: `(M, D)`.
        label: `(M,)`.
        classes: K.

    Returns:
        Weights `(D, K)` and offsets `(K,)` of the scores, each against the mean of all classes
        (what all scores share would tell none apart); for two classes one column.
    """
    means = torch.stack(
        [
            train[label == k].mean(0) if bool((label == k).any()) else train.mean(0)
            for k in range(classes)
        ]
    )
    within = train - means[label]
    covariance = within.T @ within / max(1, len(train) - classes)
    size = covariance.shape[0]
    ridge = 0.1 * covariance.diagonal().mean() + 1e-9
    covariance.diagonal().add_(ridge)
    weights = torch.linalg.solve(covariance, means.T).reshape(size, classes)
    offsets = -0.5 * (weights * means.T).sum(0)
    if classes == 2:
        return weights[:, 1:] - weights[:, :1], offsets[1:] - offsets[:1]
    return weights - weights.mean(1, keepdim=True), offsets - offsets.mean()


def judge_place(train: ImageStack, validation: ImageStack, place: Tensor) -> Verdict:
    """Judge the content of a place: a discriminant fitted on training, applied to validation.

    For 2-D images the ICC is replaced by the constancy of the content, see `constancy`.
    """
    weights, offsets = discriminant(content(train, place), train.label, train.classes)
    found = verdict(validation, content(validation, place) @ weights + offsets)
    if train.volumes:
        return found
    return Verdict(found.auc, constancy(train, place))


def constancy(stack: ImageStack, place: Tensor) -> float:
    r"""Return how much more constant the place's content is in one class than in the others.

    A device writes the same pixels into each of its images, on whatever lies there. What differs
    between diseases varies from patient to patient in each class. With m the median and d the
    median absolute deviation of a pixel within a class, the larger one of two:

    .. math:: 1 - \min_k d_k / \max_k d_k

    for each pixel and channel, of which the upper decile over the place is taken, scaled so that
    0.5 (one class has half of the other's spread) and less is 0; and for thin strokes, which a
    smaller image blends with what lies there,

    .. math:: (\max_k m_k - \min_k m_k) / (1.48 \max_k d_k)

    of each pixel less the mean of the 3 x 3 around it, of which the tenth largest is taken, scaled
    so that 1.5 and less is 0, and 3 and more is 1.

    Args:
        stack: 2-D images.
        place: bool `(H, W)`.

    Returns:
        0 to 1.
    """
    place = place.to(stack.image.device)
    values = stack.image[:, :, place].flatten(1).float().cpu()
    fine = [
        (part - avg_pool2d(part, 3, 1, 1, count_include_pad=False))[:, :, place].flatten(1)
        for part in stack.image.float().split(256)
    ]
    _, spread = _middle(values, stack.label)
    if len(spread) < 2 or values.shape[1] == 0:
        return 0.0
    scale = float(stack.image.std())
    most = spread.max(0).values
    ratio = torch.where(most > 1e-3 * scale, spread.min(0).values / most.clamp_min(1e-12), 1.0)
    same = above_half(float(torch.quantile(1 - ratio, 0.9)))
    middle, spread = _middle(torch.cat(fine).cpu(), stack.label)
    apart = middle.max(0).values - middle.min(0).values
    apart = apart / (1.48 * spread.max(0).values).clamp_min(0.01 * scale)
    drawn = float(apart.topk(min(10, len(apart))).values[-1]) / 1.5 - 1
    return max(same, min(1.0, drawn))


def _middle(values: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return median and median absolute deviation `(K, D)` of the classes with ten images."""
    own = [values[label == k] for k in label.unique() if int((label == k).sum()) >= 10]
    if not own:
        return values[:0], values[:0]
    medians = torch.stack([one.median(0).values for one in own])
    spreads = [(one - m).abs().median(0).values for one, m in zip(own, medians, strict=True)]
    return medians, torch.stack(spreads)


def above_half(value: float) -> float:
    """Return a constancy scaled so that 0.5 and less is 0, and 0.9 and more is 1.

    >>> above_half(0.75)
    0.625
    """
    return min(1.0, max(0.0, (value - 0.5) / 0.4))
