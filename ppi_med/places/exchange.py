"""What is done to a shortcut: another class's content or style, nothing, or a projection.

An `ExchangePlaced` is put before the augmentation, and does nothing until it gets a bank of other
images' content.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait
from torch import Tensor, nn

from ppi_med.errors import UsageError

SUFFIX = "_exchanged"
_QUANTILES = 33
_RINGS = 32


class Bank(ABC):
    """Content of training images for the exchange, by class."""

    def __init__(self) -> None:
        self._members: dict[int, Tensor] = {}

    def _sort(self, labels: list[int]) -> None:
        label = torch.tensor(labels)
        if len(label.unique()) < 2:
            raise UsageError(
                f"the training images have the classes {label.unique().tolist()}, expected two or "
                "more: content is exchanged with another class."
            )
        self._members = {one: (label != one).nonzero()[:, 0] for one in range(int(label.max()) + 1)}

    def draw(self, label: int) -> int:
        """Return a random member of another class, from torch's global generator."""
        members = self._members[label]
        return int(members[torch.randint(len(members), ())])

    @abstractmethod
    def exchange(self, image: Tensor, label: int, relative: Tensor | None) -> Tensor:
        """Return an image with what a random image of another class has.

        Args:
            image: `(C, H, W)`, or B-scans `(C, S, H, W)`.
            label: its class.
            relative: place of each B-scan in its volume, 0 to 1, `(S,)`; None in 2-D.
        """


class PlaceBank(Bank):
    """The content of a place, B-scan by B-scan.

    Args:
        place: bool `(H, W)`.
        images: pairs of image and class, each read once.

    Raises:
        UsageError: if an image has another size than the place, or there is one class.

    Examples:
        >>> place = torch.tensor([[True, False]])
        >>> bank = PlaceBank(place, [(torch.zeros(1, 1, 2), 0), (torch.ones(1, 1, 2), 1)])
        >>> bank.exchange(torch.zeros(1, 1, 2), 0, None).flatten().tolist()
        [1.0, 0.0]
    """

    def __init__(self, place: Tensor, images: Iterable[tuple[Tensor, int]]) -> None:
        super().__init__()
        self.place = place
        self._content: list[Tensor] = []
        labels = []
        for image, label in images:
            check_size(place, image)
            self._content.append(image[..., place].clone())
            labels.append(label)
        self._sort(labels)

    def exchange(self, image: Tensor, label: int, relative: Tensor | None) -> Tensor:
        """Return the image with the content of another class's at the place, at equal B-scans."""
        check_size(self.place, image)
        content = self._content[self.draw(label)].to(image.dtype)
        if relative is not None:
            slices = content.shape[1]
            content = content[:, (relative * slices).long().clamp(0, slices - 1)]
        made = image.clone()
        made[..., self.place] = content
        return made


class StyleBank(Bank):
    """The style of images: radial amplitude spectrum, and quantiles of the grey values.

    Args:
        images: pairs of image and class, each read once.
    """

    def __init__(self, images: Iterable[tuple[Tensor, int]]) -> None:
        super().__init__()
        self._styles: list[tuple[Tensor, Tensor]] = []
        labels = []
        for image, label in images:
            self._styles.append((spectrum(image), quantiles(image)))
            labels.append(label)
        self._sort(labels)

    def exchange(self, image: Tensor, label: int, relative: Tensor | None) -> Tensor:
        """Return the image in the style of a random one of another class."""
        return restyled(image, *self._styles[self.draw(label)])


def spectrum(image: Tensor) -> Tensor:
    """Return the mean amplitude in each ring of frequencies, `(C, 32)`, over all B-scans."""
    amplitude = torch.fft.rfft2(image.float()).abs()
    ring, count = _rings(image)
    flat = amplitude.reshape(image.shape[0], -1, ring.numel()).mean(1)
    sums = torch.zeros(image.shape[0], _RINGS).index_add_(1, ring.flatten(), flat)
    return sums / count.clamp_min(1)


def quantiles(image: Tensor) -> Tensor:
    """Return 33 quantiles of each channel's values, `(C, 33)`."""
    values = image.float().flatten(1).sort(1).values
    at = torch.linspace(0, values.shape[1] - 1, _QUANTILES).round().long()
    return values[:, at]


def restyled(image: Tensor, amplitude: Tensor, levels: Tensor) -> Tensor:
    """Return an image with the spectrum and then the grey values of another.

    The amplitude of each frequency is multiplied by the ratio of the two in its ring, the phase
    stays; then the values are moved so that their quantiles are the other's, piecewise linearly.

    Args:
        image: `(C, [S,] H, W)`.
        amplitude: amplitude of `spectrum`.
        levels: levels of `quantiles`.
    """
    ring, _ = _rings(image)
    ratio = amplitude / spectrum(image).clamp_min(1e-6)
    factor = ratio[:, ring].reshape(image.shape[0], *[1] * (image.ndim - 3), *ring.shape)
    filtered = torch.fft.irfft2(torch.fft.rfft2(image.float()) * factor, s=tuple(image.shape[-2:]))
    return levelled(filtered, levels).to(image.dtype)


def levelled(image: Tensor, levels: Tensor) -> Tensor:
    """Move the quantiles of each channel of an image `(C, *spatial)`, linearly between them."""
    own, other = quantiles(image), levels.to(image.device, torch.float32)
    channels = zip(image.float(), own, other, strict=True)
    return torch.stack([_moved(c.contiguous(), a, b) for c, a, b in channels]).to(image.dtype)


def _moved(values: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Map values so that the levels `own` become `other`, linear between them."""
    index = torch.searchsorted(own, values).clamp(1, len(own) - 1)
    low, high = own[index - 1], own[index]
    part = ((values - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return other[index - 1] + part * (other[index] - other[index - 1])


def _rings(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ring of each frequency of `rfft2`, and how many frequencies a ring has."""
    rows, columns = image.shape[-2:]
    down, across = torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)[None, :]
    radius = (down**2 + across**2).sqrt() / 0.5**0.5
    ring = (radius * _RINGS).long().clamp(0, _RINGS - 1)
    return ring, torch.bincount(ring.flatten(), minlength=_RINGS).float()


def check_size(place: Tensor, image: Tensor) -> None:
    """Check that a place fits an image.

    Raises:
        UsageError: if it does not.
    """
    if place.shape != image.shape[-2:]:
        raise UsageError(
            f"the place has {tuple(place.shape)} pixels and an image {tuple(image.shape[-2:])}: "
            "search again at the size that the network sees, or choose the same image_size."
        )


class ExchangePlaced(RandomizableTrait, MapTransform):
    """Add `image_exchanged` to an item: the image with another class's content or style.

    Put it before the augmentation, whose transforms then move both keys together. Without a bank it
    does nothing. Partners are drawn from torch's global generator, which
    `ppi_med.training.SeededDataset` seeds for each case.

    Args:
        keys: keys of images, `(C, H, W)` or `(C, S, H, W)`.
        label_key: key of the class.
        position_key: key of the ids of the B-scans' places, 1 to `num_positions`; where it is
            missing, the B-scans are the whole volume.
        num_positions: number of ids.
    """

    def __init__(
        self,
        keys: Any = "image",
        label_key: str = "label",
        position_key: str = "positions",
        num_positions: int = 100,
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.position_key = position_key
        self.num_positions = num_positions
        self.bank: Bank | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item, with the exchanged image beside it where there is a bank."""
        item = dict(data)
        if self.bank is None:
            return item
        for key in self.key_iterator(item):
            image = torch.as_tensor(item[key]).as_subclass(Tensor)
            relative = None
            if image.ndim == 4:
                relative = (torch.arange(image.shape[1]) + 0.5) / image.shape[1]
                if self.position_key in item:
                    ids = torch.as_tensor(item[self.position_key]).as_subclass(Tensor)
                    relative = (ids - 0.5) / self.num_positions
            label = int(torch.as_tensor(item[self.label_key]).flatten()[0])
            item[f"{key}{SUFFIX}"] = self.bank.exchange(image, label, relative)
        return item


@dataclass(frozen=True, eq=False)
class EvenOutside:
    """Brings an image's grey values outside a place to one mean and deviation.

    A mark changes the levels by which a volume is normalised, and so all of its pixels: an exchange
    of the place alone leaves that trace. Pixels of exactly 0, which were not recorded, stay.

    Attributes:
        place: bool `(H, W)`, left out where mean and deviation are measured.
        mean: mean of each channel, `(C,)`.
        deviation: its standard deviation, `(C,)`.

    Examples:
        >>> image = torch.tensor([[[[9.0, 1.0, 3.0]]]])
        >>> even = EvenOutside(torch.tensor([[True, False, False]]), torch.zeros(1), torch.ones(1))
        >>> even(image).flatten().tolist()
        [7.0, -1.0, 1.0]
    """

    place: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def like(cls, place: Tensor, images: Iterable[Tensor]) -> EvenOutside:
        """Return the change to the mean levels of images `(C, *spatial)`, each of one unit."""
        levels = [_levels_outside(place, image[None].float()) for image in images]
        mean, deviation = (torch.stack(one).mean(0).flatten() for one in zip(*levels, strict=True))
        return cls(place.cpu(), mean.cpu(), deviation.cpu())

    def __call__(self, image: Tensor) -> Tensor:
        """Return images `(N, C, *spatial)`, each brought to these levels."""
        check_size(self.place, image)
        shape = (1, -1, *[1] * (image.ndim - 2))
        own_mean, own_deviation = _levels_outside(self.place, image.detach().float())
        wanted = self.deviation.to(image.device).view(shape)
        scaled = (image - own_mean) * (wanted / own_deviation.clamp_min(1e-6))
        scaled = scaled + self.mean.to(image.device).view(shape)
        return torch.where(image == 0, image, scaled.to(image.dtype))

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        levels = {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}
        return {"place": packed(self.place), **levels}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> EvenOutside:
        """Return what `facts` described.

        Raises:
            UsageError: if it is something else.
        """
        try:
            levels = [torch.tensor(facts[name]).float() for name in ("mean", "deviation")]
            if levels[0].ndim != 1 or levels[0].shape != levels[1].shape:
                raise ValueError(f"levels of shape {tuple(levels[0].shape)}")
            return cls(unpacked(facts["place"]), *levels)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"the grey levels beside the weights cannot be read ({error}): copy both files "
                "again."
            ) from error


def _levels_outside(place: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of recorded pixels outside the place, `(N, C, 1, ...)`."""
    seen = (image != 0) & ~place.to(image.device)
    axes = tuple(range(2, image.ndim))
    count = seen.sum(axes, keepdim=True).clamp_min(1)
    mean = (image * seen).sum(axes, keepdim=True) / count
    square = ((image - mean).square() * seen).sum(axes, keepdim=True) / count
    return mean, square.sqrt()


class Blank:
    """Blanks a place in whatever a network is given: a forward pre-hook.

    Examples:
        >>> network = nn.Flatten()
        >>> _ = network.register_forward_pre_hook(Blank(torch.tensor([[True, False]])))
        >>> network(torch.ones(1, 1, 1, 2)).tolist()
        [[0.0, 1.0]]
    """

    def __init__(self, place: Tensor) -> None:
        self.place = place

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs with the image's place at 0."""
        image = inputs[0]
        check_size(self.place, image)
        keep = (~self.place).to(image.device, image.dtype)
        return (image * keep, *inputs[1:])


def packed(mask: Tensor) -> dict[str, Any]:
    """Return a mask as JSON values: its shape, and its bits in base64."""
    bits = np.packbits(mask.cpu().numpy())
    return {"shape": list(mask.shape), "bits": base64.b64encode(bits.tobytes()).decode()}


def unpacked(value: Mapping[str, Any]) -> Tensor:
    """Return the mask of `packed`, bool `(H, W)`.

    Raises:
        UsageError: if it is not one.

    Examples:
        >>> unpacked(packed(torch.tensor([[True, False], [False, False]]))).tolist()
        [[True, False], [False, False]]
    """
    try:
        rows, columns = (int(one) for one in value["shape"])
        bits = np.frombuffer(base64.b64decode(value["bits"], validate=True), dtype=np.uint8)
        found = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"the place beside the weights cannot be read ({error}): copy both files again."
        ) from error
    return torch.from_numpy(found.astype(bool))


@dataclass(frozen=True, eq=False)
class Projection:
    r"""Projective class artifact compensation (Anders et al., 2022, arXiv 1912.11425).

    .. math:: z' = z - v (v^T z - c)

    Attributes:
        vector: v, of length 1, float32 `(F,)`.
        centre: c, the mean of v^T z over examples.

    Examples:
        >>> Projection(torch.tensor([0.0, 1.0]), 3.0)(torch.tensor([[5.0, 7.0]])).tolist()
        [[5.0, 3.0]]
    """

    vector: Tensor
    centre: float

    @classmethod
    def between(cls, features: Tensor, exchanged: Tensor) -> Projection:
        """Return the projection of the direction between features of images and of exchanged ones.

        v is the direction in which an exchange moves the features most, the first right singular
        vector of the differences: the examples come in pairs, where the paper fits a linear
        classifier to two sets.

        Args:
            features: `(n, F)`.
            exchanged: those of the same images with another class's content at a place.

        Examples:
            >>> x = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
            >>> made = Projection.between(x, x + torch.tensor([[0.0, 2.0], [0.0, -2.0]]))
            >>> made.vector.abs().tolist(), made(x)[:, 0].tolist()
            ([0.0, 1.0], [1.0, 0.0])
        """
        one, two = features.double().cpu(), exchanged.double().cpu()
        vector = torch.linalg.svd(one - two, full_matrices=False).Vh[0]
        return cls(vector.float(), float((torch.cat([one, two]) @ vector).mean()))

    def __call__(self, features: Tensor) -> Tensor:
        """Return features `(..., F)` without the direction."""
        v = self.vector.to(features)
        keep = torch.eye(len(v), dtype=v.dtype, device=v.device) - torch.outer(v, v)
        return nn.functional.linear(features, keep, self.centre * v)

    def hook(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Act as the forward pre-hook of a layer."""
        return (self(inputs[0]), *inputs[1:])

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        return {"vector": self.vector.tolist(), "centre": self.centre}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Projection:
        """Return what `facts` described.

        Raises:
            UsageError: where it is something else.
        """
        try:
            vector = torch.tensor(facts["vector"], dtype=torch.float32)
            if vector.ndim != 1 or abs(float(vector.norm()) - 1) > 1e-3:
                raise ValueError(f"a vector of shape {tuple(vector.shape)}")
            return cls(vector, float(facts["centre"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"the projection beside the weights cannot be read ({error}): copy both files "
                "again."
            ) from error
