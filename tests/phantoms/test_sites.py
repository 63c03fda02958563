"""The sites differ in what they are said to differ in."""

from __future__ import annotations

import numpy as np
import pytest

from ppi_med.phantoms.oct.artefacts import mark
from ppi_med.phantoms.oct.spec import SITES
from tests.phantoms.eyes import SIZE, volumes


@pytest.fixture(scope="module")
def grey() -> dict[str, np.ndarray]:
    """Some healthy volumes of each site, (n, depth, width, slices)."""
    return {
        site.name: np.stack(
            [volumes(f"S{i}", [None], site=site)[0].images for i in range(4)]
        ).astype(float)
        for site in SITES
    }


def test_widths(grey: dict[str, np.ndarray]) -> None:
    widths = {name: images.shape[2] for name, images in grey.items()}
    assert widths == {s.name: round(s.width * SIZE.width) for s in SITES}
    assert widths["site_c"] < widths["site_b"] < widths["site_a"] == SIZE.width


def test_noise(grey: dict[str, np.ndarray]) -> None:
    """Deviation of the grey values in the vitreous, where nothing but noise is."""
    noise = {name: images[:, :8].std() for name, images in grey.items()}
    assert noise["site_b"] > 1.3 * noise["site_a"] > 1.3 * noise["site_c"]
    assert noise["site_d"] > 1.1 * noise["site_a"]


def test_contrast(grey: dict[str, np.ndarray]) -> None:
    """Brightest part against the vitreous: low at b, high at c."""
    contrast = {
        name: np.percentile(images, 98) - images[:, :8].mean() for name, images in grey.items()
    }
    assert contrast["site_b"] < 0.85 * contrast["site_a"]
    assert contrast["site_c"] > 1.05 * contrast["site_a"]
    background = {name: images[:, :8].mean() for name, images in grey.items()}
    assert background["site_c"] < 5 < 30 < background["site_a"] < background["site_b"]


def test_prevalences_differ() -> None:
    assert len({site.prevalence for site in SITES}) == 4


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_mark_is_seen_against_its_site(site: object, grey: dict[str, np.ndarray]) -> None:
    """Far from what is there without it, on average, in units of the noise there."""
    images = grey[site.name]  # type: ignore[attr-defined]
    where, value = mark(site.artefact, images.shape[1], images.shape[2])  # type: ignore[attr-defined]
    under = images[:, where]
    distance = abs(value[where].astype(float)[None, :, None] - under).mean()
    assert distance > 3 * under.std()
    assert distance > 50
