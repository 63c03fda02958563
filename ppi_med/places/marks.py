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
# The finer grid of larger images is as if their shorter side had so many pixels.
_MOST_SIDE = 96
_STARTS, _ROUNDS = 4, 3
# Other forms of a mark that are sought in the images that do not hold the first, such as its other
# sizes; and images whose matches say where a mark lies.
_FORMS, _PATTERNS = 6, 64
# Part of the images that hold the first form at least, and of those left that hold a further one.
_HALF_HOLD, _SOME_HOLD = 0.5, 0.2
# Images that templates are cut from and refined on, and of either group that compare them.
_ASKED, _COMPARED = 100, 150
# Part of a template's side by which the filling reaches beyond the pixels that count.
_GROWN = 1 / 6
# Pixels of a template that count: those that differ by less than these parts of the images' median
# deviation, but at least this share.
_SAME, _LEAST_SHARE = (0.25, 0.05), 0.05
_BATCH = 128


@dataclass(frozen=True, eq=False)
class Form:
    """A form of a mark, such as one of its sizes, on the grid on which it is sought.

    Attributes:
        template: its pixels, `(C, S, S)` with S odd.
        mask: which of them are the same in each image, bool `(S, S)`.
        limit: root mean square distance of these up to which a match is the mark.
        places: rows and columns of all matches in some images that hold the mark in any form,
            parts of the image's height and width, `(P, K, 2)`; -1 where an image has fewer than K.
    """

    template: Tensor
    mask: Tensor
    limit: float
    places: Tensor

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        return {
            "template": self.template.tolist(),
            "mask": self.mask.int().tolist(),
            "limit": self.limit,
            "places": [
                [[round(part, 4) for part in at] for at in image if at[0] >= 0]
                for image in self.places.tolist()
            ],
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Form:
        """Return what `facts` described.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        template = torch.tensor(facts["template"], dtype=torch.float32)
        mask = torch.tensor(facts["mask"]) > 0
        side = template.shape[-1]
        if template.ndim != 3 or mask.shape != (side, side) or side % 2 == 0 or not mask.any():
            raise ValueError(f"a template of {tuple(template.shape)}")
        found = [torch.tensor(image, dtype=torch.float64) for image in facts["places"]]
        # An earlier version had one place in each image.
        places = _alike([image.reshape(-1, 2) for image in found])
        return cls(template, mask, float(facts["limit"]), places)


@dataclass(frozen=True, eq=False)
class MovingMark:
    """A mark that lies elsewhere in each image.

    Attributes:
        forms: its forms, the one that most images hold first.
        label: class whose images hold it.
        zoom: pixels of the grid on which it is sought per pixel of the image.
        auc: AUC of the best match's distance for that class against the others, of the first form.
        constancy: 1 - d / d' of the median distances of that class and of the others, scaled as
            in `ppi_med.places.constancy`, of the first form.
        pool: pixels along each side that are averaged first, as they were for the search.
    """

    forms: tuple[Form, ...]
    label: int
    zoom: float
    auc: float
    constancy: float
    pool: int = 1

    @property
    def j(self) -> float:
        """J = max(0, 2 AUC - 1) constancy."""
        return Verdict(self.auc, self.constancy).j

    def held(self, image: Tensor) -> Tensor:
        """Return which of the images `(N, C, H, W)` hold the mark, bool `(N,)`."""
        parts = [self.matches(part) for part in image.detach().float().split(_BATCH)]
        return torch.cat([torch.stack(part).flatten(2).any(2).any(0) for part in parts])

    def without(self, image: Tensor) -> Tensor:
        """Return images `(N, C, H, W)`, or volumes' `(N, C, S, H, W)`, with the mark filled.

        All matches are filled from around them. An image without one is filled where the mark lies
        in another image, so that the filling itself tells nothing. Where, its own pixels decide:
        the same for the same image.
        """
        if image.ndim == 5:
            single = self.without(image.transpose(1, 2).flatten(0, 1))
            return single.reshape(len(image), -1, *single.shape[1:]).transpose(1, 2)
        hidden = torch.cat([self._hidden(part) for part in image.detach().float().split(_BATCH)])
        seen = 1 - hidden.to(image.dtype)
        half = max(len(form.mask) for form in self.forms) / 2
        sigma = self.pool * half / self.zoom / 2
        around = gaussian_smooth(image.detach() * seen, sigma, 2)
        filling = around / gaussian_smooth(seen, sigma, 2).clamp_min(1e-3)
        return image * seen + (filling * (1 - seen)).to(image.dtype)

    def matches(self, image: Tensor) -> list[Tensor]:
        """Return where each form lies in images `(N, C, H, W)`: bool `(N, h, w)` on the grid."""
        if self.pool > 1:
            image = avg_pool2d(image, self.pool, ceil_mode=True)
        sought = _Sought(image, self.zoom, len(self.forms[0].mask) // 2)
        return [sought.distances(form.template, form.mask) <= form.limit for form in self.forms]

    def _hidden(self, image: Tensor) -> Tensor:
        """Return what is filled, bool `(N, 1, H, W)`."""
        hits = self.matches(image)
        bare = ~torch.stack(hits).flatten(2).any(2).any(0)
        # All places of another image that holds it.
        sums = (image.double().flatten(1).abs().sum(1) * 1e3).long()
        bare = bare.nonzero()[:, 0]
        drawn = sums[bare] % len(self.forms[0].places)
        grids = []
        for hit, form in zip(hits, self.forms, strict=True):
            at = form.places.to(hit.device)[drawn]
            size = torch.tensor(hit.shape[-2:], device=hit.device)
            row, column = torch.minimum((at * size).long(), size - 1).unbind(2)
            there = at[..., 0] >= 0
            hit[bare[:, None].expand_as(row)[there], row[there], column[there]] = True
            grids.append(_holes(hit, form.mask))
        hidden = torch.stack(grids).amax(0)
        return interpolate(hidden, image.shape[-2:], mode="bilinear") > 0.25

    def enlarged(self, factor: float) -> MovingMark:
        """Return the mark of images that were averaged over so many pixels for the search."""
        return replace(self, pool=self.pool * max(1, round(factor)))

    def summary(self) -> dict[str, Any]:
        """Return all but the forms as JSON values."""
        return {
            "label": self.label,
            "j": self.j,
            "auc": self.auc,
            "constancy": self.constancy,
            "zoom": self.zoom,
            "pool": self.pool,
        }

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        return {**self.summary(), "forms": [form.facts() for form in self.forms]}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> MovingMark:
        """Return what `facts` described.

        Raises:
            UsageError: if it is something else.
        """
        try:
            # An earlier version had one form.
            forms = tuple(Form.of(form) for form in facts.get("forms", [facts]))
            count = {len(form.places) for form in forms}
            if len(count) != 1 or 0 in count:
                raise ValueError(f"{len(forms)} forms, places of {sorted(count)} images")
            zoom, pool = float(facts["zoom"]), int(facts["pool"])
            if not 0.01 < zoom < 100:
                raise ValueError(f"a zoom of {zoom}")
            if not 1 <= pool <= 100:
                raise ValueError(f"a pool of {pool}")
            seen = float(facts["auc"]), float(facts["constancy"])
            return cls(forms, int(facts["label"]), zoom, *seen, pool)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"a mark cannot be read beside the weights ({error}): copy both files again."
            ) from error


def _holes(hit: Tensor, mask: Tensor) -> Tensor:
    """Return 1 around the matches `(N, h, w)`: the mask's pixels, grown, float `(N, 1, h, w)`."""
    grown = math.ceil(len(mask) * _GROWN)
    hole = max_pool2d(pad(mask[None, None].float(), (grown,) * 4), 2 * grown + 1, 1, grown)
    half = hole.shape[-1] // 2
    height, width = hit.shape[-2:]
    size = (height + 2 * half, width + 2 * half)
    # By spectra: a convolution of this size is slow.
    spread = irfft2(rfft2(hit[:, None].float(), size) * rfft2(hole.to(hit.device), size), size)
    return torch.gt(spread[..., half : half + height, half : half + width], 0.5).float()


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
    of the classes' median distances. Further forms are sought in the same way in those images of
    its class that do not hold it, such as its other sizes; a fifth of these is enough for one.

    Args:
        network: `(N, C, H, W)` to logits, trained shortly on `train`.
        train: single images.
        validation: those that judge.
        seed: seed of the images that are drawn to compare templates on.

    Returns:
        The mark with the largest J, at least 0.25 (0.3 on the training part); None without one.
    """
    finest = _zooms(train.image.shape[-2:])
    found = [
        mark
        for label in range(train.classes)
        if (mark := _of_class(network, train, validation, label, seed, finest)) is not None
    ]
    whole = further = max(found, key=lambda mark: mark.j, default=None)
    left = [train, validation]
    while whole is not None and further is not None and len(whole.forms) < _FORMS:
        left = [bare for stack in left if (bare := _bare(stack, further)) is not None]
        if len(left) < 2:
            break
        zoom = (further.zoom,)
        further = _of_class(network, left[0], left[1], further.label, seed, zoom, _SOME_HOLD)
        if further is not None:
            whole = replace(whole, forms=(*whole.forms, *further.forms))
    return None if whole is None else _with_places(whole, train, seed)


def _bare(stack: ImageStack, mark: MovingMark) -> ImageStack | None:
    """Return a stack without those images of the mark's class that hold it; None if all do."""
    left = ~mark.held(stack.image).cpu() | (stack.label != mark.label)
    return stack.chosen(left) if bool((left & (stack.label == mark.label)).any()) else None


def _of_class(
    network: nn.Module,
    train: ImageStack,
    validation: ImageStack,
    label: int,
    seed: int,
    zooms: Sequence[float],
    part: float = _HALF_HOLD,
) -> MovingMark | None:
    held, is_own = validation.label == label, train.label == label
    own, other = _drawn(train, is_own, seed), _drawn(train, ~is_own, seed)
    if min(len(own), len(other)) < 10 or not held.any() or held.all():
        return None
    surest = _surest(network, train, label)
    peaks = _peaks(evidence(network, train, surest))
    best: MovingMark | None = None
    for zoom in zooms:
        half = round(_HALF * zoom * scale(train.image.shape[-2:]))
        asked, mine, theirs = (
            _Sought(train.image[index], zoom, half) for index in (surest, own, other)
        )
        spread = float((asked.fine - asked.fine.median()).abs().median())
        pieces = _cut(asked.fine, (peaks * zoom).long(), half)
        starts = (pieces.median(0).values, *pieces[: _STARTS - 1])
        for start, same in product(starts, _SAME):
            template, mask = _refined(asked, start, same * spread)
            mark = _judged(mine, theirs, template, mask, label, part)
            if best is None or mark.j > best.j:
                best = mark
    if best is None or best.j < THRESHOLD_TRAINING:
        return None
    (form,) = best.forms
    half = len(form.mask) // 2
    mine, theirs = (_Sought(validation.image[which], best.zoom, half) for which in (held, ~held))
    answer = _judged(mine, theirs, form.template, form.mask, label, part)
    if answer.j < THRESHOLD:
        return None
    return replace(best, auc=answer.auc, constancy=answer.constancy)


def _zooms(size: Sequence[int]) -> tuple[float, float]:
    """Return the grids that are tried, in pixels of the grid per pixel.

    The pixels themselves, since they may be those that a device wrote, and another grid, at most
    twice as fine: in images that were made smaller or larger a mark lies between the pixels.

    >>> _zooms((64, 80)), _zooms((160, 160))
    ((1.0, 2.0), (1.0, 1.2))
    """
    return 1.0, 2 * min(1.0, _MOST_SIDE / min(size))


def _judged(
    own: _Sought, other: _Sought, template: Tensor, mask: Tensor, label: int, part: float
) -> MovingMark:
    """Return a template as a mark, judged by how near it comes to a part of both groups' images."""
    mine, theirs = (images.best(template, mask)[0] for images in (own, other))
    truth = torch.cat([torch.ones(len(mine)), torch.zeros(len(theirs))]).long().numpy()
    auc = float(AUC(truth, -torch.cat([mine, theirs]).double().numpy()))
    near, far = float(mine.quantile(part)), float(theirs.quantile(part))
    # What all images hold, such as an empty margin, matches everywhere.
    floor = 1e-3 * float(other.fine.std())
    ratio = near / far if far > floor else 1.0
    limit = near + (far - near) / 4
    form = Form(template, mask, limit, torch.zeros(0, 0, 2))
    return MovingMark((form,), label, own.zoom, auc, above_half(1 - ratio))


def _with_places(mark: MovingMark, train: ImageStack, seed: int) -> MovingMark:
    """Return a mark with its places in some training images; see `Form`."""
    own = train.image[_drawn(train, train.label == mark.label, seed)].float()
    hits = [hit.cpu() for hit in mark.matches(own)]
    holds = torch.stack(hits).flatten(2).any(2).any(0).nonzero()[:_PATTERNS, 0]
    size = torch.tensor(hits[0].shape[-2:], dtype=torch.float64)
    placed = [_alike([(one.nonzero() + 0.5) / size for one in hit[holds]]) for hit in hits]
    forms = zip(mark.forms, placed, strict=True)
    return replace(mark, forms=tuple(replace(form, places=places) for form, places in forms))


def _alike(places: Sequence[Tensor]) -> Tensor:
    """Return lists of places `(k, 2)`, one per image, as `(P, K, 2)`, filled up with -1."""
    most = max((len(at) for at in places), default=0)
    padded = [pad(at.double(), (0, 0, 0, most - len(at)), value=-1.0) for at in places]
    return torch.stack(padded) if padded else torch.zeros(0, 0, 2)


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

    def best(self, template: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
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
        distance, where = images.best(template, mask)
        better = distance.argsort(stable=True)[: max(1, len(distance) // 2)]
        pieces = _cut(images.fine[better], where[better], half)
        template = pieces.median(0).values
        spread = (pieces - template).abs().median(0).values.mean(0)
        least = max(12, round(_LEAST_SHARE * spread.numel()))
        mask = spread <= max(float(spread.flatten().kthvalue(least).values), limit)
    return template, mask
