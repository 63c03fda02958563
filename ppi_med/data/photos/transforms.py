"""Photographs as dictionary transforms: load, fit to the network's size, augment, normalise."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform, Transform
from torch import Tensor

from ppi_med.data.photos.pixels import read_pixels

# ImageNet's, which most weights in files were trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class LoadPhotod(Transform):
    """Read a photograph, fit it to the network's size, and draw its boxes as a mask.

    The picture becomes `(3, H, W)` of bytes: small to keep in memory. By default it is resampled
    to the size whatever its shape, so that the whole object stays in view; with `short_side` the
    shape is kept, the short side resampled to that, and the centre cut out.

    Args:
        size: (H, W) that the network sees.
        short_side: short side of the picture before the centre is cut out; None: no cut.
        mask_key: key of the mask `(1, H, W)` of the boxes, where the item has them; None: none.
        key: key of the reference, and then of the picture.

    Raises:
        ValueError: for a size that is not positive.

    Examples:
        >>> LoadPhotod((32, 32)).size
        (32, 32)
    """

    def __init__(
        self,
        size: Sequence[int],
        short_side: int | None = None,
        mask_key: str | None = None,
        key: str = "image",
    ) -> None:
        if len(size) != 2 or min(size) < 1 or (short_side or max(size)) < max(size):
            raise ValueError(
                f"size is {list(size)} and short_side {short_side}, expected two numbers of "
                "pixels and a short side that is not smaller."
            )
        self.size = (int(size[0]), int(size[1]))
        self.short_side = short_side
        self.mask_key = mask_key
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the picture in place of its reference."""
        item = dict(data)
        pixels = read_pixels(str(item[self.key]))
        fit = _Fit(pixels.shape[0], pixels.shape[1], self.size, self.short_side)
        item[self.key] = torch.from_numpy(fit.resampled(pixels).transpose(2, 0, 1).copy())
        boxes = item.pop("boxes", None)
        if self.mask_key is not None:
            item[self.mask_key] = fit.mask(boxes or ())
        return item


class _Fit:
    """The mapping from a file's pixels to the network's image."""

    def __init__(self, rows: int, columns: int, size: tuple[int, int], short: int | None) -> None:
        self.size = size
        scale = None if short is None else short / min(rows, columns)
        # Of the whole picture after resampling, and where the part that is kept begins.
        self.whole = size if scale is None else (round(rows * scale), round(columns * scale))
        self.first = ((self.whole[0] - size[0]) // 2, (self.whole[1] - size[1]) // 2)
        self.factor = (self.whole[0] / rows, self.whole[1] / columns)

    def resampled(self, pixels: Any) -> Any:
        from PIL import Image

        picture = Image.fromarray(pixels)
        if pixels.shape[:2] != self.whole:
            picture = picture.resize(self.whole[::-1], Image.Resampling.BILINEAR)
        (y, x), (height, width) = self.first, self.size
        return np.asarray(picture)[y : y + height, x : x + width]

    def mask(self, boxes: Sequence[Sequence[float]]) -> Tensor:
        """Return the union of the boxes; a pixel is inside where its centre is."""
        mask = torch.zeros(1, *self.size, dtype=torch.bool)
        for box in boxes:
            inside = [
                (centre >= low * factor - first) & (centre < high * factor - first)
                for low, high, factor, first, centre in zip(
                    box[:2], box[2:], self.factor, self.first, self._centres(), strict=True
                )
            ]
            mask |= inside[0][:, None] & inside[1][None, :]
        return mask

    def _centres(self) -> tuple[Tensor, Tensor]:
        return torch.arange(self.size[0]) + 0.5, torch.arange(self.size[1]) + 0.5


class AugmentPhotod(RandomizableTransform, MapTransform):
    """Flip left to right, and shift by a few pixels; what moves in is mirrored.

    Args:
        keys: keys of pictures `(C, H, W)`.
        flip_prob: probability of the flip.
        shift: largest shift in pixels, in either direction.
        allow_missing_keys: leave out keys that an item lacks.

    Examples:
        >>> AugmentPhotod("image", flip_prob=1.0, shift=0)({"image": torch.arange(3).view(1, 1, 3)})
        {'image': tensor([[[2, 1, 0]]])}
    """

    def __init__(
        self,
        keys: Any = "image",
        flip_prob: float = 0.5,
        shift: int = 4,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        self.flip_prob = flip_prob
        self.shift = shift

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with pictures moved."""
        flip = self.R.random() < self.flip_prob
        down, right = self.R.randint(-self.shift, self.shift + 1, size=2)
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = _moved(item[key], int(down), int(right), flip)
        return item


def _moved(image: Tensor, down: int, right: int, flip: bool) -> Tensor:
    rows, columns = (
        _mirrored(torch.arange(length) - by, length)
        for length, by in ((image.shape[-2], down), (image.shape[-1], right))
    )
    if flip:
        columns = columns.flip(0)
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored(place: Tensor, length: int) -> Tensor:
    place = place.abs()
    last = length - 1
    return last - (last - place).abs()


class NormalizePhotod(MapTransform):
    """Bytes to (x / 255 - mean) / std: 0 is then the mean colour, "nothing there" for PPI.

    Args:
        keys: keys of pictures `(3, H, W)` of bytes.
        mean: mean of each channel, of values 0 to 1 (default ImageNet's).
        std: likewise.
        allow_missing_keys: leave out keys that an item lacks.

    Examples:
        >>> image = torch.full((3, 1, 1), 255, dtype=torch.uint8)
        >>> NormalizePhotod("image", mean=(1, 1, 1))({"image": image})["image"].flatten().tolist()
        [0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        keys: Any = "image",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mean = torch.tensor(tuple(mean)).view(-1, 1, 1) * 255
        self.std = torch.tensor(tuple(std)).view(-1, 1, 1) * 255

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with pictures as float32."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = (item[key].float() - self.mean) / self.std
        return item
