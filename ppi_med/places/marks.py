"""Marks that move: the same few pixels somewhere in each 2-D image of one class.

A letter, an electrode or a ruler that lies elsewhere in each image has no place that could be
exchanged. But a device writes the same pixels each time. So a template is cut out where a shortly
trained network looks, and sought in all images: where those of one class hold it and the best match
in the others is far off, it is a mark. A lesion is similar from patient to patient, never the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.fft import irfft2, rfft2
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from ppi_med.errors import UsageError
from ppi_med.evaluation.metrics import AUC
from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.places.ask import evidence, scale
from ppi_med.places.judge import Verdict, above_half
from ppi_med.places.probe import scores_of
from ppi_med.places.stack import ImageStack

THRESHOLD = 0.25
"""J on the validation part from which a template is a mark."""
THRESHOLD_TRAINING = 0.3
"""J on the training images from which a template is tried on the validation part."""
# Half of a template's side, in pixels of an image 64 pixels high.
_HALF = 6.0
# Larger images are sought as if their shorter side had so many pixels.
_MOST_SIDE = 96
_STARTS, _ROUNDS = 4, 3
# Images that templates are cut from and refined on, and of either group that compare them.
_ASKED, _COMPARED = 100, 150
# Pixels of a template that count: those that differ by less than these parts of the images' median
# deviation, but at least this share.
_SAME, _LEAST_SHARE = (0.25, 0.05), 0.05
_BATCH = 128


@dataclass(frozen=True, eq=False)
class MovingMark:
    """A mark that lies elsewhere in each image.

    Attributes:
        template: its pixels, `(C, S, S)` with S odd, on the grid on which it is sought.
        mask: which of them are the same in each image, bool `(S, S)`.
        label: class whose images hold it.
        zoom: pixels of that grid per pixel of the image.
        pool: pixels along each side that are averaged first, as they were for the search.
        limit: distance up to which a match is the mark.
        places: row and column of the mark's middle in some images, parts of the image's height
            and width, `(P, 2)`.
        auc: AUC of the best match's distance for that class against the others.
        constancy: 1 - d / d' of the median distances of that class and of the others, scaled as
            in `ppi_med.places.constancy`.
    """

    template: Tensor
    mask: Tensor
    label: int
    zoom: float
    limit: float
    places: Tensor
    auc: float
    constancy: float
    pool: int = 1

    @property
    def j(self) -> float:
        """J = max(0, 2 AUC - 1) constancy."""
        return Verdict(self.auc, self.constancy).j

    def matches(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best match in each image.

        Args:
            image: `(N, C, H, W)`.

        Returns:
            The root mean square distance of the mask's pixels, `(N,)`, and row and column of the
            template's middle on its grid, int64 `(N, 2)`.
        """
        return self._sought(image).matches(self.template, self.mask)

    def without(self, image: Tensor) -> Tensor:
        """Return images with the mark filled from around it, `(N, C, H, W)`.

        All matches are filled. An image without one is filled where the mark lies in another image,
        so that the filling itself tells nothing. Where, its own pixels decide: the same for the
        same image.
        """
        at = torch.cat([self._hits(part) for part in image.detach().float().split(_BATCH)])
        grown = math.ceil(self.template.shape[-1] / 6)
        hole = max_pool2d(self.mask[None, None].float(), 2 * grown + 1, 1, grown)
        half = hole.shape[-1] // 2
        height, width = at.shape[-2:]
        size = (height + 2 * half, width + 2 * half)
        # The hole around each match, by spectra: a convolution of this size is slow.
        spread = irfft2(rfft2(at, size) * rfft2(hole.to(at), size), size)
        hidden = (spread[..., half : half + height, half : half + width] > 0.5).float()
        hidden = interpolate(hidden, image.shape[-2:], mode="bilinear") > 0.25
        seen = 1 - hidden.to(image.dtype)
        sigma = self.pool * half / self.zoom / 2
        around = gaussian_smooth(image.detach() * seen, sigma, 2)
        filling = around / gaussian_smooth(seen, sigma, 2).clamp_min(1e-3)
        return image * seen + (filling * (1 - seen)).to(image.dtype)

    def _sought(self, image: Tensor) -> _Sought:
        if self.pool > 1:
            image = avg_pool2d(image, self.pool, ceil_mode=True)
        return _Sought(image, self.zoom, self.template.shape[-1] // 2)

    def _hits(self, image: Tensor) -> Tensor:
        """Return 1 at the middle of each match or, without one, of another image's mark."""
        hit = (self._sought(image).distances(self.template, self.mask) <= self.limit).float()
        sums = image.double().flatten(1).abs().sum(1)
        drawn = self.places.to(image.device)[(sums * 1e3).long() % len(self.places)]
        size = torch.tensor(hit.shape[-2:], device=image.device)
        row, column = torch.minimum((drawn * size).long(), size - 1).unbind(1)
        bare = ~hit.flatten(1).any(1)
        hit[bare, row[bare], column[bare]] = 1.0
        return hit[:, None]

    def enlarged(self, factor: float) -> MovingMark:
        """Return the mark of images that were averaged over so many pixels for the search."""
        return replace(self, pool=self.pool * max(1, round(factor)))

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        return {
            "label": self.label,
            "j": self.j,
            "auc": self.auc,
            "constancy": self.constancy,
            "zoom": self.zoom,
            "pool": self.pool,
            "limit": self.limit,
            "places": self.places.tolist(),
            "template": self.template.tolist(),
            "mask": self.mask.int().tolist(),
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> MovingMark:
        """Return what `facts` described.

        Raises:
            UsageError: if it is something else.
        """
        try:
            template = torch.tensor(facts["template"], dtype=torch.float32)
            mask = torch.tensor(facts["mask"]) > 0
            side = template.shape[-1]
            if template.ndim != 3 or mask.shape != (side, side) or side % 2 == 0 or not mask.any():
                raise ValueError(f"a template of {tuple(template.shape)}")
            places = torch.tensor(facts["places"], dtype=torch.float64)
            if places.ndim != 2 or places.shape[1] != 2 or not len(places):
                raise ValueError(f"places of {tuple(places.shape)}")
            zoom, limit = float(facts["zoom"]), float(facts["limit"])
            if not 0.01 < zoom < 100:
                raise ValueError(f"a zoom of {zoom}")
            seen = float(facts["auc"]), float(facts["constancy"])
            pool = int(facts["pool"])
            if not 1 <= pool <= 100:
                raise ValueError(f"a pool of {pool}")
            return cls(template, mask, int(facts["label"]), zoom, limit, places, *seen, pool)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"a mark cannot be read beside the weights ({error}): copy both files again."
            ) from error


def find_mark(
    network: nn.Module, train: ImageStack, validation: ImageStack, *, seed: int = 0
) -> MovingMark | None:
    """Find the mark that a shortly trained network looks at, wherever it lies.

    For each class, the images of which the network is surest are cut out where it looks. Each of
    some of these pieces, and their median, is a template that is sought in all of them, and
    replaced by the median of the better half of the matches, three times; of its pixels those
    count that differ least. The best template on the training part is judged on validation:

        J = max(0, 2 AUC - 1) constancy

    with the AUC of the distance to the best match, and the constancy of `ppi_med.places.constancy`
    of the classes' median distances.

    Args:
        network: `(N, C, H, W)` to logits, trained shortly on `train`.
        train: 2-D images.
        validation: those that judge.
        seed: seed of the images that are drawn to compare templates on.

    Returns:
        The mark with the largest J, at least 0.25 (0.3 on the training part); None without one.
    """
    found = [
        mark
        for label in range(train.classes)
        if (mark := _of_class(network, train, validation, label, seed)) is not None
    ]
    return max(found, key=lambda mark: mark.j, default=None)


def _of_class(
    network: nn.Module, train: ImageStack, validation: ImageStack, label: int, seed: int
) -> MovingMark | None:
    surest, held = _surest(network, train, label), validation.label == label
    is_own = train.label == label
    own, other = _drawn(train, is_own, seed), _drawn(train, ~is_own, seed)
    if min(len(own), len(other)) < 10 or not held.any() or held.all():
        return None
    peaks = _peaks(evidence(network, train, surest))
    best: MovingMark | None = None
    for zoom in _zooms(train.image.shape[-2:]):
        half = round(_HALF * zoom * scale(train.image.shape[-2:]))
        asked, mine, theirs = (
            _Sought(train.image[index], zoom, half) for index in (surest, own, other)
        )
        spread = float((asked.fine - asked.fine.median()).abs().median())
        pieces = _cut(asked.fine, (peaks * zoom).long(), half)
        starts = (pieces.median(0).values, *pieces[: _STARTS - 1])
        for start, same in product(starts, _SAME):
            template, mask = _refined(asked, start, same * spread)
            mark = _judged(mine, theirs, template, mask, label)
            if best is None or mark.j > best.j:
                best = mark
    if best is None or best.j < THRESHOLD_TRAINING:
        return None
    half = best.template.shape[-1] // 2
    mine, theirs = (_Sought(validation.image[part], best.zoom, half) for part in (held, ~held))
    answer = _judged(mine, theirs, best.template, best.mask, label)
    if answer.j < THRESHOLD:
        return None
    return replace(best, auc=answer.auc, constancy=answer.constancy)


def _zooms(size: Sequence[int]) -> tuple[float, ...]:
    """Return the grids that are tried, in pixels of the grid per pixel.

    The pixels themselves, where they may be those that a device wrote, and a finer grid: in images
    that were made smaller or larger a mark lies between the pixels.

    >>> _zooms((64, 80)), _zooms((192, 256))
    ((1.0, 2.0), (1.0,))
    """
    finer = 2 * min(1.0, _MOST_SIDE / min(size))
    return (1.0, finer) if min(size) <= _MOST_SIDE else (finer,)


def _judged(own: _Sought, other: _Sought, template: Tensor, mask: Tensor, label: int) -> MovingMark:
    """Return a template as a mark, judged by how near it comes to both groups of images."""
    (mine, where), theirs = own.matches(template, mask), other.matches(template, mask)[0]
    truth = torch.cat([torch.ones(len(mine)), torch.zeros(len(theirs))]).long().numpy()
    auc = float(AUC(truth, -torch.cat([mine, theirs]).double().numpy()))
    near, far = float(mine.median()), float(theirs.median())
    # What all images hold, such as an empty margin, matches everywhere.
    floor = 1e-3 * float(other.fine.std())
    ratio = near / far if far > floor else 1.0
    limit = near + (far - near) / 4
    size = torch.tensor(own.fine.shape[-2:], dtype=torch.float64)
    places = ((where[mine <= limit] + 0.5) / size)[:_ASKED]
    return MovingMark(template, mask, label, own.zoom, limit, places, auc, above_half(1 - ratio))


class _Sought:
    """Images on the grid on which templates are sought, with their spectra.

    Args:
        image: `(N, C, H, W)`.
        zoom: pixels of the grid per pixel.
        half: half of a template's side.
    """

    def __init__(self, image: Tensor, zoom: float, half: int) -> None:
        self.zoom, self.half = zoom, half
        self.fine = image.float()
        if zoom != 1:
            size = [max(1, round(side * zoom / 2)) for side in image.shape[-2:]]
            coarse = interpolate(self.fine, size, mode="bilinear", antialias=True)
            self.fine = interpolate(coarse, scale_factor=2, mode="bilinear")
        padded = pad(self.fine, (half,) * 4, mode="replicate")
        self.shape = padded.shape[-2:]
        self.spectrum, self.squares = rfft2(padded), rfft2(padded.square().sum(1))

    def distances(self, template: Tensor, mask: Tensor) -> Tensor:
        """Return the root mean square distance of the mask's pixels at each place `(N, h, w)`."""
        device = self.fine.device
        template, weight = template.to(device), mask.to(device).float()
        # sum w (x - t)^2, multiplied out.
        cross = (self.spectrum * rfft2(weight * template, self.shape).conj()).sum(1)
        spectrum = self.squares * rfft2(weight, self.shape).conj() - 2 * cross
        square: Tensor = irfft2(spectrum, self.shape)
        height, width = self.fine.shape[-2:]
        square = square[:, :height, :width] + (weight * template.square()).sum()
        return (square.clamp_min(0) / (weight.sum() * len(template))).sqrt()

    def matches(self, template: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distance of the best match, `(N,)`, and its row and column, `(N, 2)`."""
        distance = self.distances(template, mask)
        return distance.flatten(1).min(1).values, _peaks(-distance)


def _surest(network: nn.Module, stack: ImageStack, label: int) -> Tensor:
    """Return the images of a class of which the network is surest: at most half, at most 100."""
    own = (stack.label == label).nonzero()[:, 0]
    scores = scores_of(network, stack.image[own])
    score = scores[:, label] if scores.shape[1] > 1 else scores[:, 0] * (1 if label else -1)
    order = score.argsort(descending=True, stable=True)
    return own[order[: min(_ASKED, max(20, len(own) // 2))]]


def _drawn(stack: ImageStack, which: Tensor, seed: int) -> Tensor:
    """Return at most 150 of the images, drawn at random."""
    index = which.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    return index[torch.randperm(len(index), generator=generator)[:_COMPARED]]


def _peaks(maps: Tensor) -> Tensor:
    """Return row and column of each map's maximum, int64 `(N, 2)`."""
    index = maps.flatten(1).argmax(1)
    return torch.stack([index // maps.shape[-1], index % maps.shape[-1]], 1)


def _cut(image: Tensor, where: Tensor, half: int) -> Tensor:
    """Return the squares around the given pixels, `(N, C, 2 half + 1, 2 half + 1)`."""
    padded = pad(image, (half,) * 4, mode="replicate")
    side = 2 * half + 1
    return torch.stack(
        [
            one[:, y : y + side, x : x + side]
            for one, (y, x) in zip(padded, where.tolist(), strict=True)
        ]
    )


def _refined(images: _Sought, template: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return the template after some rounds of matching, and which of its pixels count."""
    half = images.half
    mask = torch.zeros(template.shape[-2:], dtype=torch.bool)
    inner = slice(half - half // 2, half + half // 2 + 1)
    mask[inner, inner] = True
    for _ in range(_ROUNDS):
        distance, where = images.matches(template, mask)
        better = distance.argsort(stable=True)[: max(1, len(distance) // 2)]
        pieces = _cut(images.fine[better], where[better], half)
        template = pieces.median(0).values
        spread = (pieces - template).abs().median(0).values.mean(0)
        least = max(12, round(_LEAST_SHARE * spread.numel()))
        mask = spread <= max(float(spread.flatten().kthvalue(least).values), limit)
    return template, mask
