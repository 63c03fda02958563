"""Content of small reports, and one browser for all tests that need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ppi_med.inference.report import ReportContent

SLICES, DEPTH, WIDTH = 7, 40, 60
NASTY = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>.mat"


def grey_of(number: int) -> int:
    """The brightness that B-scan `number`, from 0, is filled with."""
    return 30 + 25 * number


def make_content(**changes: Any) -> ReportContent:
    """A report whose B-scans can be told apart, with a map in the upper left of each."""
    pixels = np.empty((SLICES, DEPTH, WIDTH), np.uint8)
    for number in range(SLICES):
        pixels[number] = grey_of(number)
    saliency = np.zeros(pixels.shape, np.float32)
    saliency[:, : DEPTH // 2, : WIDTH // 2] = 1
    saliency[:, DEPTH // 2 :, WIDTH // 2 :] = -1
    weights = np.array([1, 2, 3, 4, 8, 1, 1]) / 20
    content = ReportContent(
        finding="geographic atrophy",
        source="eye.mat",
        probability=0.734,
        pixels=pixels,
        weights=weights,
        slice_probabilities=np.linspace(0, 1, SLICES),
        saliency=saliency * weights[:, None, None].astype(np.float32),
        spacing_mm=(0.05, 0.02, 0.2),
        facts=(("File", "eye.mat"), ("Eye", "unknown")),
        warnings=("spacing unknown",),
        notes=("trained on simulated volumes",),
    )
    return replace(content, **changes)


@pytest.fixture
def content() -> ReportContent:
    return make_content()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium with a profile of its own that is thrown away."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(
            executable_path=path,
            headless=True,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield instance
        instance.close()
