"""Small data sets with and without a mark, and one browser."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIDE = 32


def pictures(count: int, *, mark: float | None, seed: int = 0, colour: bool = False) -> Any:
    """Noise with a blob of label 1 at a random place; a white square in a corner agrees as asked.

    Returns:
        uint8 ``(count, SIDE, SIDE)`` or with a channel axis, and the labels.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    images = rng.normal(110, 25, (count, SIDE, SIDE))
    for image, k in zip(images, label, strict=True):
        if k:
            row, column = rng.integers(10, 18, 2)
            image[row : row + 5, column : column + 5] += 25
        if mark is not None and (rng.random() < mark) == bool(k):
            image[1:5, 1:5] = 250
    images = np.clip(images, 0, 255).astype(np.uint8)
    return (np.repeat(images[..., None], 3, -1) if colour else images), label


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def write_pictures(folder: Path, count: int = 120, **options: Any) -> Path:
    """A CSV of PNGs of two images a patient, with its folder."""
    images, label = pictures(count, **options)
    rows = []
    (folder / "images").mkdir(parents=True)
    for number, (image, k) in enumerate(zip(images, label, strict=True)):
        name = f"images/{number:04d}.png"
        Image.fromarray(image).save(folder / name)
        patient = f"p{number // 4 * 2 + number % 2}"
        rows.append([name, "ill" if k else "normal", patient, "a"])
    return write_csv(folder / "images.csv", ["image", "label", "patient", "site"], rows)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium with a profile of its own that is thrown away."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(
            executable_path=path, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        yield instance
        instance.close()
