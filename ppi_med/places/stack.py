"""Images as a network sees them, and the exchange of a place's content between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ppi_med.errors import UsageError


@dataclass(frozen=True)
class ImageStack:
    """Single images: the B-scans of volumes, or 2-D images.

    Attributes:
        image: `(M, C, H, W)`, floating, as the network sees them.
        label: class of each image, int64 `(M,)`, from 0; a B-scan has its volume's.
        unit: index of the volume that an image is of, int64 `(M,)`; of the image itself in 2-D.
        position: index of the B-scan in its volume, int64 `(M,)`; 0 in 2-D.
        patient: index of the patient, int64 `(M,)`; None: each unit is a patient.

    Raises:
        UsageError: if shapes do not fit, or there are not two classes.

    Examples:
        >>> index = torch.arange(4)
        >>> stack = ImageStack(torch.rand(4, 1, 8, 8), index % 2, index, torch.zeros_like(index))
        >>> stack.classes, stack.volumes
        (2, False)
    """

    image: Tensor
    label: Tensor
    unit: Tensor
    position: Tensor
    patient: Tensor | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or not self.image.is_floating_point():
            raise UsageError(
                f"image is {self.image.dtype} of shape {tuple(self.image.shape)}, expected "
                "floating (M, C, H, W)."
            )
        indices = {"label": self.label, "unit": self.unit, "position": self.position}
        if self.patient is not None:
            indices["patient"] = self.patient
        for name, value in indices.items():
            if value.shape != self.image.shape[:1] or value.is_floating_point():
                raise UsageError(
                    f"{name} is {value.dtype} of shape {tuple(value.shape)} for "
                    f"{len(self.image)} images, expected one whole number per image."
                )
        if len(self.label) == 0 or int(self.label.min()) < 0 or int(self.label.max()) < 1:
            raise UsageError(
                f"the images have the classes {self.label.unique().tolist()}, expected two or "
                "more, counted from 0: a search for shortcuts compares classes."
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.label.max()) + 1

    @cached_property
    def volumes(self) -> bool:
        """Whether images come in volumes."""
        return len(self.unit.unique()) < len(self.unit)

    @cached_property
    def unit_index(self) -> Tensor:
        """The units counted from 0 without gaps, int64 `(M,)`."""
        index: Tensor = self.unit.unique(return_inverse=True)[1]
        return index

    @cached_property
    def unit_label(self) -> Tensor:
        """Class of each unit, int64 `(U,)`."""
        found = torch.zeros(int(self.unit_index.max()) + 1, dtype=torch.int64)
        found[self.unit_index] = self.label
        return found

    def chosen(self, index: Tensor) -> ImageStack:
        """Return some of the images, by index or by a mask."""
        return ImageStack(
            self.image[index],
            self.label[index],
            self.unit[index],
            self.position[index],
            None if self.patient is None else self.patient[index],
        )

    def batches(self, size: int) -> Iterator[slice]:
        """Yield slices of at most `size` images, in order."""
        for start in range(0, len(self.image), size):
            yield slice(start, start + size)


class Partners:
    """Draws other images of a stack for each of its images: those at the same position first.

    Args:
        stack: whose images.
        same: partners of the same class in place of another one.
    """

    def __init__(self, stack: ImageStack, same: bool = False) -> None:
        self.label, self.position = stack.label, stack.position
        self._pools: dict[tuple[int, int], Tensor] = {}
        for label in stack.label.unique().tolist():
            fits = (stack.label == label) if same else (stack.label != label)
            everywhere = fits.nonzero()[:, 0]
            for position in stack.position.unique().tolist():
                here = (fits & (stack.position == position)).nonzero()[:, 0]
                self._pools[label, position] = here if len(here) else everywhere

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return a partner for each of the images `index`, int64 of its shape."""
        keys = zip(self.label[index].tolist(), self.position[index].tolist(), strict=True)
        pools = [self._pools[key] for key in keys]
        drawn = torch.rand(len(pools), generator=generator).tolist()
        chosen = [p[int(u * len(p))] for p, u in zip(pools, drawn, strict=True)]
        return torch.stack(chosen) if chosen else index


def exchanged(image: Tensor, place: Tensor, partner: Tensor) -> Tensor:
    """Return the images with the partners' content at the place.

    Args:
        image: `(N, C, *spatial)`.
        place: bool, `(H, W)` or broadcastable to the image.
        partner: images of the same shape.

    Examples:
        >>> place = torch.tensor([[True, False]])
        >>> exchanged(torch.zeros(1, 1, 1, 2), place, torch.ones(1, 1, 1, 2)).flatten().tolist()
        [1.0, 0.0]
    """
    return torch.where(place.to(image.device), partner, image)
