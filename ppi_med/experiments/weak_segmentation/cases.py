"""Patches with their readers' outlines, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.datasets import CropMode
from ppi_med.segmentation.grid import NetworkGrid, Spacing, Window

MASKS = ("lesion", "majority", "readers", "state")


@dataclass(frozen=True)
class Case:
    """One patch, whole.

    Attributes:
        name: volume_id.
        subject: patient.
        part: "training", "validation" or "test".
        image: float32 `(rows, columns)` in HU.
        readers: bool `(slots, rows, columns)`; empty where a reader drew nothing here.
        drawn: bool `(slots,)`: which readers have an outline on this slice.
        union: marked by any reader.
        majority: marked by at least half of those with an outline.
        spacing_mm: between rows, between columns.
        label: 0 or 1.
    """

    name: str
    subject: str
    part: str
    image: NDArray[np.float32]
    readers: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    union: NDArray[np.bool_]
    majority: NDArray[np.bool_]
    spacing_mm: Spacing
    label: int = 0


@dataclass(frozen=True)
class View:
    """A case in its window.

    Attributes:
        case: the whole patch.
        window: the window.
        image, readers, union, majority: of the window, as in `Case`.
    """

    case: Case
    window: Window
    image: NDArray[np.float32]
    readers: NDArray[np.bool_]
    union: NDArray[np.bool_]
    majority: NDArray[np.bool_]

    @property
    def references(self) -> dict[str, NDArray[np.bool_]]:
        """The masks to compare with, by name; readers without an outline are left out."""
        named = {"union": self.union, "majority": self.majority}
        for slot in np.flatnonzero(self.case.drawn).tolist():
            named[f"reader{slot + 1}"] = self.readers[slot]
        return {name: mask for name, mask in named.items() if mask.any()}


def case_of(item: Mapping[str, Any], part: str) -> Case:
    """Return the case of an item of a data set of patches.

    Args:
        item: with `image` in HU `(1, H, W)`, `readers`, `state`, `majority`, `union` or
            `lesion`, `spacing_mm`, `volume_id`, `subject`, and `label` if there is one: of
            `LidcNodules` or `LidcPatches` without crop, or of `LoadPatchd` with all masks.
        part: part of the splits.

    Raises:
        ValueError: if something is missing, or no reader drew anything.

    Examples:
        >>> mask = np.zeros((1, 5, 5), np.uint8); mask[0, 2, 2] = 1
        >>> case = case_of({"image": np.zeros((1, 5, 5)), "readers": mask, "state": [2],
        ...     "union": mask, "majority": mask, "spacing_mm": 0.7, "volume_id": "a",
        ...     "subject": "p"}, "test")
        >>> case.spacing_mm, case.union.sum().item()
        ((0.7, 0.7), 1)
    """
    name = str(item.get("volume_id", ""))
    lesion = "union" if "union" in item else "lesion"
    for key in ("image", "readers", "state", "majority", lesion, "spacing_mm", "subject"):
        if key not in item:
            raise ValueError(f"case {name!r} has no {key}, expected an item with its masks.")
    union = _plane(item[lesion])
    if not union.any():
        raise ValueError(f"case {name!r} has an empty union: no reader drew anything there.")
    spacing = np.broadcast_to(np.asarray(item["spacing_mm"], dtype=np.float64), (2,))
    return Case(
        name=name,
        subject=str(item["subject"]),
        part=part,
        image=np.asarray(item["image"], dtype=np.float32)[0],
        readers=np.asarray(item["readers"]).astype(bool),
        drawn=np.asarray(item["state"]) == 2,
        union=union,
        majority=_plane(item["majority"]),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        label=int(np.asarray(item.get("label", 0)).reshape(-1)[0]),
    )


def view_of(case: Case, grid: NetworkGrid, mode: CropMode = "centred", seed: int = 0) -> View:
    """Return a case in the window that the network sees; image and masks are cut together.

    Args:
        case: the whole patch.
        grid: the network's.
        mode: "centred" or "shifted".
        seed: seed of the shifts.
    """
    union = case.union.astype(np.uint8)
    window = grid.window(union, case.spacing_mm, mode, seed=seed, name=case.name)
    return View(
        case,
        window,
        window.cut(case.image),
        window.cut(case.readers),
        window.cut(case.union),
        window.cut(case.majority),
    )


def views_of(
    cases: Iterable[Case], grid: NetworkGrid, mode: CropMode = "centred", seed: int = 0
) -> list[View]:
    """Return the views of cases, see `view_of`."""
    return [view_of(case, grid, mode, seed) for case in cases]


def require_unseen_cases(
    trained: Mapping[str, Any],
    dataset_dir: str | Path,
    *,
    fold: int | None = None,
    test_fold: int | None = None,
) -> None:
    """Refuse to choose or to measure on patients that the network was trained on.

    Raises:
        MissingFileError: if the folder is not a data set.
        UsageError: if the folds are not those of the training.
    """
    from ppi_med.bundle_tools.preflight import require_folds_of_training
    from ppi_med.data.lidc.cases import case_hashes, require_cases

    require_cases(dataset_dir)
    hashes = case_hashes(dataset_dir, test_fold)
    for part in ("validation", "test"):
        require_folds_of_training(
            trained, hashes, part=part, fold=fold, test_fold=test_fold, option="--test-fold"
        )


def load_study_cases(
    dataset_dir: str | Path,
    *,
    fold: int | None = None,
    test_fold: int | None = None,
    most: int | None = None,
) -> list[Case]:
    """Return the validation and test cases of a data set, see `load_cases`.

    Args:
        dataset_dir: patches in Zarr, or nodules in npz arrays.
        fold: validation is this fold.
        test_fold: test is this fold, as in the network's training.
        most: largest number of cases per part, spread over it.

    Raises:
        MissingFileError: if the folder is not a data set.
        UsageError: as of `load_cases`.
    """
    from ppi_med.data.lidc.cases import load_cases
    from ppi_med.data.lidc.transforms import LoadPatchd

    load: Any = LoadPatchd(MASKS)
    found: list[Case] = []
    for part in ("validation", "test"):
        items = load_cases(dataset_dir, part, fold=fold, test_fold=test_fold)
        step = 1 if most is None else max(1, len(items) // most)
        for item in items[::step][: most or None]:
            loaded = load(item)
            if bool(loaded["lesion"].any()):
                found.append(case_of(loaded, part))
    return found


def _plane(values: Any) -> NDArray[np.bool_]:
    found = np.asarray(values).astype(bool)
    return np.asarray(found[0] if found.ndim == 3 else found)
