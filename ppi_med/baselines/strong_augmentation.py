"""Strong augmentation: the first baseline that a reviewer asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppi_med.baselines.base import Baseline
from ppi_med.intervention import gaussian_smooth
from ppi_med.intervention.randomness import process_rank, separate


class StrongAugmentation(Baseline):
    """Moves and changes every image of a training step at random, in addition to the bundle's own.

    In this order: rotation, scale and shift of each image as a whole; a factor and an exponent of
    the grey values; noise; blur; an erased rectangle. 0, "nothing there", stays 0 except for noise,
    and fills what moves in and what is erased.

    Args:
        strength: 1 (default): rotation up to 15 degrees, scale 0.8 to 1.25, shift up to a tenth
            of the image, factor 0.7 to 1.3, exponent 0.7 to 1.4, noise up to 0.1, blur up to 1.5
            pixels, a rectangle of up to a third of each side; other values scale the ranges.
        prob: probability of each of the five, for each image.
        seed: seed of what is drawn; several processes draw separately.
        slice_axis: axis of `(N, C, *spatial)` along which slices are moved alike.

    Examples:
        >>> StrongAugmentation().prepare(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    uses_inferer = True

    def __init__(
        self,
        strength: float = 1.0,
        prob: float = 0.5,
        seed: int = 0,
        slice_axis: int | None = None,
    ) -> None:
        super().__init__()
        if strength < 0 or not 0 <= prob <= 1:
            raise ValueError(
                f"strength is {strength} and prob {prob}, expected 0 or more and 0 to 1."
            )
        self.strength = strength
        self.prob = prob
        self.slice_axis = slice_axis
        self._random = torch.Generator().manual_seed(seed)
        self._separated = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state of what is drawn."""
        return {"random": self._random.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self._random.set_state(state["random"])
        self._separated = False

    def prepare(self, image: Tensor) -> Tensor:
        """Return images `(N, C, *spatial)` changed at random.

        Raises:
            ValueError: if they are not two-dimensional, or volumes of such slices.
        """
        if not self._separated:
            # Only now: by now a resumed run has given the first process's state to all.
            separate(self._random, process_rank())
            self._separated = True
        slices = self._as_slices(image.as_subclass(Tensor))
        size = slices.shape[0]
        moved = self._moved(slices)
        moved = self._grey(moved)
        amount = 0.1 * self.strength * self._uniform(size) * self._chosen(size)
        noise = torch.randn(moved.shape, generator=self._random)
        moved = moved + _each(amount, moved) * noise.to(moved)
        moved = self._blurred(moved)
        return self._erased(moved).movedim(1, self._axis(image)).reshape(image.shape)

    def _as_slices(self, image: Tensor) -> Tensor:
        """Return `(N, S, C, H, W)`."""
        if self.slice_axis is None and image.ndim == 4:
            return image.unsqueeze(1)
        if self.slice_axis is not None and image.ndim == 5:
            return image.movedim(self.slice_axis, 1)
        raise ValueError(
            f"The images have shape {tuple(image.shape)}, expected (N, C, H, W), or volumes whose "
            f"slices lie along slice_axis, which is {self.slice_axis}."
        )

    def _axis(self, image: Tensor) -> int:
        return 1 if self.slice_axis is None else self.slice_axis

    def _moved(self, slices: Tensor) -> Tensor:
        size, count = slices.shape[:2]
        chosen = self._chosen(size)
        angle = math.radians(15) * self.strength * self._signed(size) * chosen
        scale = 1.25 ** (self.strength * self._signed(size) * chosen)
        shift = [0.2 * self.strength * self._signed(size) * chosen for _ in range(2)]
        ratio = slices.shape[-2] / slices.shape[-1]
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = [
            torch.stack([cos, -sin * ratio, shift[0]], 1),
            torch.stack([sin / ratio, cos, shift[1]], 1),
        ]
        theta = torch.stack(rows, 1).to(slices)
        flat = slices.flatten(1, 2)
        grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
        moved = F.grid_sample(flat, grid, align_corners=False)
        found: Tensor = moved.unflatten(1, (count, slices.shape[2]))
        return found

    def _grey(self, slices: Tensor) -> Tensor:
        size = slices.shape[0]
        chosen = self._chosen(size)
        factor = 1 + 0.3 * self.strength * self._signed(size) * chosen
        exponent = 1.4 ** (self.strength * self._signed(size) * chosen)
        # The sign stays: normalised images may have values below "nothing there". The smallest
        # float keeps the derivative of the power finite where nothing is.
        tiny = torch.finfo(slices.dtype).tiny
        power = slices.abs().clamp_min(tiny) ** _each(exponent, slices)
        return _each(factor, slices) * torch.where(slices == 0, slices, slices.sign() * power)

    def _blurred(self, slices: Tensor) -> Tensor:
        sigmas = 1.5 * self.strength * self._uniform(slices.shape[0]) * self._chosen(len(slices))
        found = [
            gaussian_smooth(one, float(sigma)) if sigma > 0.3 else one
            for one, sigma in zip(slices, sigmas, strict=True)
        ]
        return torch.stack(found)

    def _erased(self, slices: Tensor) -> Tensor:
        kept = torch.ones_like(slices)
        chosen = self._chosen(len(slices))
        for number in range(len(slices)):
            places = []
            for length in slices.shape[-2:]:
                share = min(1.0, self.strength * float(self._uniform(1)) / 3)
                side = round(share * length)
                start = int(float(self._uniform(1)) * (length - side + 1))
                places.append(slice(start, start + side))
            if chosen[number]:
                kept[number, ..., places[0], places[1]] = 0
        return slices * kept

    def _uniform(self, size: int) -> Tensor:
        return torch.rand(size, generator=self._random)

    def _signed(self, size: int) -> Tensor:
        return 2 * self._uniform(size) - 1

    def _chosen(self, size: int) -> Tensor:
        return (self._uniform(size) < self.prob).float()


def _each(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *[1] * (like.ndim - 1))
