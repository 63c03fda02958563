"""Whether an input is like those of the training, by grey values and by the network's features.

A network answers about anything. Empty, saturated and noisy inputs are recognised by their pixels
alone. Foreign inputs are recognised by their distance to those of the training: the root mean
square of (x - mean) / deviation, over a few numbers of the grey values and over the features that
the network's last layer sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GREY = ("level", "contrast", "darkest", "brightest", "smoothness", "layering")
FEWEST = 8
"""With fewer known inputs there is no distance."""
_FACTOR = 2.0
_LEAST_THRESHOLD = 3.0
_GREY_DEVIATION = 0.02
_EMPTY_SHARE, _SATURATED_SHARE, _NOISE_BELOW = 0.995, 0.3, 0.15
_EMPTY_SLICES, _FEWEST_VALUES = 0.5, 16

Floats = NDArray[np.float64]


def grey_numbers(pixels: NDArray[Any]) -> dict[str, float]:
    """Return the numbers in `GREY` of a stack of slices.

    Level and contrast are mean and deviation. Darkest and brightest are the shares of the pixels
    that have the smallest and the largest value. Smoothness is the correlation of neighbours in a
    row: near 1 for images, near 0 for noise. Layering is the share of the variance that lies
    between rows.

    Args:
        pixels: `(..., H, W)`.

    Examples:
        >>> grey_numbers(np.zeros((1, 4, 4)))["darkest"]
        1.0
    """
    values = np.asarray(pixels, np.float32).reshape(-1, *pixels.shape[-2:])
    low, high = float(values.min()), float(values.max())
    variance = float(values.var(dtype=np.float64))
    rows = float(values.mean(axis=2, dtype=np.float64).var())
    centred = values - values.mean(dtype=np.float64).astype(np.float32)
    beside = float(np.mean(centred[..., 1:] * centred[..., :-1], dtype=np.float64))
    flat = variance <= 1e-12
    return {
        "level": float(values.mean(dtype=np.float64)),
        "contrast": variance**0.5,
        "darkest": float((values == low).mean()),
        "brightest": float((values == high).mean()),
        "smoothness": 0.0 if flat or values.shape[2] < 2 else beside / variance,
        "layering": 0.0 if flat else rows / variance,
    }


def doubts_about_pixels(pixels: NDArray[np.uint8], clipped: bool = False) -> list[str]:
    """Return sentences on pixels that no network can answer about.

    They are empty if one value has 99.5 % of them, or of half of the slices, saturated if the
    largest value of their type has 30 %, a drawing if fewer than 16 values have 99.5 %, and noise
    if neighbours in a row correlate by less than 0.15, as in a checkerboard too.

    Args:
        pixels: 8 bits, `(..., H, W)`.
        clipped: whether a window may have made many pixels white, as of CT.

    Examples:
        >>> doubts_about_pixels(np.zeros((2, 8, 8), np.uint8))
        ['empty: 100.0 % of the pixels have the value 0']
    """
    counts = np.bincount(pixels.ravel(), minlength=256)
    shares = counts / counts.sum()
    most = int(shares.argmax())
    if shares[most] >= _EMPTY_SHARE:
        return [f"empty: {100 * shares[most]:.1f} % of the pixels have the value {most}"]
    doubts = []
    slices = pixels.reshape(-1, pixels.shape[-2] * pixels.shape[-1])
    flat = [np.bincount(one, minlength=1).max() >= _EMPTY_SHARE * one.size for one in slices]
    if np.mean(flat) >= _EMPTY_SLICES:
        doubts.append(f"empty: {sum(flat)} of {len(flat)} slices have one value each")
    values = int((np.cumsum(np.sort(shares)[::-1]) < _EMPTY_SHARE).sum()) + 1
    if values < _FEWEST_VALUES:
        doubts.append(f"a drawing: {values} grey values have nearly all pixels")
    if shares[255] >= _SATURATED_SHARE and not clipped:
        doubts.append(f"saturated: {100 * shares[255]:.1f} % of the pixels are white")
    smoothness = grey_numbers(pixels)["smoothness"]
    if smoothness < _NOISE_BELOW:
        doubts.append(f"noise: neighbouring pixels correlate by {smoothness:.2f} only")
    return doubts


def last_layer(network: nn.Module) -> nn.Module | None:
    """Return `slice_head` (the GA network's), else the last linear layer; None without one."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return getattr(network, "slice_head", None) or (layers[-1] if layers else None)


@contextmanager
def recorded_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of the network's last linear layer while the block runs.

    Args:
        network: one with `slice_head` (the GA network), else its last linear layer counts; without
            one nothing is collected.

    Yields:
        A list that fills with float32 tensors `(rows, features)` on the CPU.
    """
    head = last_layer(network)
    found: list[Tensor] = []
    if head is None:
        yield found
        return

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0].detach().float().flatten(0, -2).cpu())

    handle = head.register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def features_of_items(found: Sequence[Tensor], items: int, sliced: bool) -> Floats | None:
    """Return one mean vector of features per item, `(items, features)`; `None` without features.

    Args:
        found: result of `recorded_features`.
        items: number of inputs.
        sliced: whether an item's rows are neighbours (its slices) or one batch apart (its views).
    """
    if not found:
        return None
    rows = torch.cat(list(found))
    if len(rows) % items:
        return None
    parted = rows.view(items, -1, rows.shape[1]) if sliced else rows.view(-1, items, rows.shape[1])
    return np.asarray(parted.mean(1 if sliced else 0).double().numpy())


@dataclass(frozen=True)
class Known:
    """Statistics of one kind of numbers over known inputs.

    Attributes:
        mean: mean of each number.
        deviation: deviation of each number, never 0.
        threshold: twice the largest distance of a known input, at least 3.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    threshold: float

    @classmethod
    def of(cls, rows: Floats, least: float | Floats) -> Known:
        """Learn from inputs `(n, numbers)`; deviations are at least `least`."""
        mean, deviation = rows.mean(0), np.maximum(rows.std(0), least)
        far = np.sqrt((((rows - mean) / deviation) ** 2).mean(1)).max()
        return cls(
            tuple(float(f"{x:.6g}") for x in mean),
            tuple(float(f"{x:.6g}") for x in deviation),
            float(f"{max(_FACTOR * far, _LEAST_THRESHOLD):.4g}"),
        )

    def distance(self, row: Sequence[float] | Floats) -> float:
        """Return the root mean square of the standardised numbers."""
        part = (np.asarray(row) - np.asarray(self.mean)) / np.asarray(self.deviation)
        return float(np.sqrt((part**2).mean()))


@dataclass(frozen=True)
class KnownInputs:
    """Statistics of inputs known from the training.

    Attributes:
        count: number of them.
        grey: statistics of the numbers in `GREY`.
        features: of the network's features, `None` where it has no linear layer.

    Examples:
        >>> images = np.random.default_rng(0).normal(size=(9, 1, 8, 8)).cumsum(3)
        >>> known = KnownInputs.of([grey_numbers(image) for image in images])
        >>> known == KnownInputs.read(known.facts())
        True
        >>> likeness(9 * images[0], known=known).reasons[0].split(" to")[0]
        'grey values: distance 18.4'
    """

    count: int
    grey: Known
    features: Known | None = None

    @classmethod
    def of(
        cls, grey: Sequence[Mapping[str, float]], features: Floats | None = None
    ) -> KnownInputs | None:
        """Learn from the numbers of known inputs; `None` for fewer than `FEWEST`."""
        if len(grey) < FEWEST:
            return None
        rows = np.array([[numbers[name] for name in GREY] for numbers in grey])
        seen = None
        if features is not None:
            spread = features.std(0)
            seen = Known.of(features, np.full_like(spread, max(0.2 * float(spread.mean()), 1e-6)))
        return cls(len(rows), Known.of(rows, _GREY_DEVIATION), seen)

    def facts(self) -> dict[str, Any]:
        """Return them as JSON values."""
        kinds = {"grey": self.grey, "features": self.features}
        return {"count": self.count} | {
            kind: {
                "mean": list(known.mean),
                "deviation": list(known.deviation),
                "threshold": known.threshold,
            }
            for kind, known in kinds.items()
            if known is not None
        }

    @classmethod
    def read(cls, facts: Mapping[str, Any] | None) -> KnownInputs | None:
        """Read what `facts` gives; `None` gives `None`."""
        if not facts:
            return None
        found = {
            kind: Known(
                tuple(facts[kind]["mean"]),
                tuple(facts[kind]["deviation"]),
                float(facts[kind]["threshold"]),
            )
            for kind in ("grey", "features")
            if kind in facts
        }
        return cls(int(facts["count"]), **found)


@dataclass(frozen=True)
class Likeness:
    """How like the training an input is.

    Attributes:
        reasons: why it is unlike the training; empty if no difference was found.
        numbers: those in `GREY`.
        distances: kind ("grey", "features") to the distance and its threshold.
    """

    reasons: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    distances: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def warning(self) -> str:
        """One sentence, "" where there is no reason for it."""
        if not self.reasons:
            return ""
        return (
            f"unlike the data of the training ({'; '.join(self.reasons)}): the answer means "
            "nothing."
        )

    def facts(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "unlike_training": bool(self.reasons),
            "reasons": list(self.reasons),
            "grey_values": {name: float(f"{x:.6g}") for name, x in self.numbers.items()},
            "distances": {
                kind: {"distance": float(f"{far:.6g}"), "threshold": most}
                for kind, (far, most) in self.distances.items()
            },
        }


def likeness(
    image: NDArray[Any],
    features: Floats | None = None,
    known: KnownInputs | None = None,
    pixels: NDArray[np.uint8] | None = None,
) -> Likeness:
    """Compare an input with those known from the training.

    Args:
        image: as the network sees it, `(..., H, W)`.
        features: features of the network for this input.
        known: what the file beside the weights records of the training; without it only the pixels
            are checked.
        pixels: 8-bit pixels as recorded; without them the image is brought to 8 bits.
    """
    numbers = grey_numbers(image)
    if pixels is not None:
        reasons = doubts_about_pixels(pixels)
    elif numbers["contrast"] <= 1e-6:
        reasons = ["empty: all pixels have one value"]
    else:
        low, high = np.min(image), np.max(image)
        scaled = np.asarray(255 * ((image - low) / (high - low)), np.uint8)
        reasons = doubts_about_pixels(scaled, clipped=True)
    distances: dict[str, tuple[float, float]] = {}
    if known is not None:
        grey = known.grey.distance([numbers[name] for name in GREY])
        distances["grey"] = (grey, known.grey.threshold)
        fits = known.features is not None and features is not None
        if fits and len(features) == len(known.features.mean):  # type: ignore[arg-type, union-attr]
            far = known.features.distance(features)  # type: ignore[union-attr, arg-type]
            distances["features"] = (far, known.features.threshold)  # type: ignore[union-attr]
    for kind, words in (("grey", "grey values"), ("features", "features")):
        far, most = distances.get(kind, (0.0, 0.0))
        if far > most:
            reasons.append(f"{words}: distance {far:.1f} to the training, known up to {most:.1f}")
    return Likeness(reasons, numbers, distances)
