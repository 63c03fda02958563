"""What the data sets of patches share: the form of an item, crops, the label's rule."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CropMode = Literal["centred", "shifted"]


def crop_start(
    union: NDArray[np.uint8], size: int, mode: CropMode, *, seed: int = 0, name: str = ""
) -> tuple[int, int]:
    """Return the first row and column of a crop.

    A patch is centred on its lesion, which gives the place away: a model can learn to answer "in
    the middle". "shifted" puts the lesion anywhere in the crop, whole where it fits, at a place
    that depends on `seed` and `name` only, so that an evaluation can be repeated.

    Args:
        union: `(rows, columns)`, the lesion.
        size: of the crop.
        mode: "centred" or "shifted".
        seed: of the shifts.
        name: of the patch.

    Returns:
        Row and column.

    Raises:
        ValueError: for a crop larger than the patch, or an unknown mode.

    Examples:
        >>> crop_start(np.ones((71, 71), np.uint8), 41, "centred")
        (15, 15)
    """
    if mode not in ("centred", "shifted"):
        raise ValueError(f"crop mode is {mode!r}, expected centred or shifted.")
    if not 1 <= size <= min(union.shape):
        raise ValueError(f"crop is {size}, expected 1 to {min(union.shape)}, the patch's size.")
    middle = [n // 2 - size // 2 for n in union.shape]
    if mode == "centred":
        return middle[0], middle[1]
    digest = hashlib.sha256(f"crop-{seed}-{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    starts = []
    for axis in (0, 1):
        found = np.flatnonzero(union.any(axis=1 - axis))
        low, high = (found[0], found[-1]) if len(found) else (middle[axis], middle[axis])
        first = max(0, int(high) - size + 1)
        last = min(int(low), union.shape[axis] - size)
        starts.append(int(rng.integers(first, last + 1)) if first <= last else middle[axis])
    return starts[0], starts[1]


def make_item(
    arrays: dict[str, NDArray[Any]],
    facts: dict[str, Any],
    crop: tuple[int, CropMode, int] | None = None,
) -> dict[str, Any]:
    """Return an item as MONAI's transforms take it.

    Args:
        arrays: `hu`, `readers`, `state`, `union`, `majority` of one patch.
        facts: label, subject, site and so on; they go into the item as they are.
        crop: size, mode and seed; `None` for the whole patch.

    Returns:
        `image` float32 `(1, H, W)` in HU; `readers` uint8 `(4, H, W)`; `union` and `majority`
        uint8 `(1, H, W)`; `state` int64 `(4,)`: 0 no such reader, 1 without an outline on this
        slice, 2 with one; and the facts.
    """
    import torch

    if crop is not None:
        size, mode, seed = crop
        name = str(facts.get("volume_id", ""))
        row, column = crop_start(arrays["union"], size, mode, seed=seed, name=name)
        arrays = {
            key: value[..., row : row + size, column : column + size] if key != "state" else value
            for key, value in arrays.items()
        }
        facts = facts | {"crop_row": row, "crop_column": column}

    def tensor(values: NDArray[Any], kind: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(kind)

    return {
        "image": tensor(arrays["hu"][None], torch.float32),
        "readers": tensor(arrays["readers"], torch.uint8),
        "union": tensor(arrays["union"][None], torch.uint8),
        "majority": tensor(arrays["majority"][None], torch.uint8),
        "state": tensor(arrays["state"], torch.int64),
        **facts,
    }


def majority_of(readers: NDArray[np.uint8], marked: int, share: float) -> NDArray[np.uint8]:
    """Return the pixels that at least `share` of the `marked` readers marked, one at least."""
    enough = max(1.0, share * marked - 1e-9)
    return np.asarray((readers.sum(axis=0) >= enough).astype(np.uint8))
