"""From the maps of an eye to grey values: layers, attenuation, shadows, speckle, grey scale.

Signals are in dB above an arbitrary level. A step in dB is a factor of power, so shadows and
hypertransmission act on all that lies below, and the noise floor sets in where little is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ppi_med.phantoms.oct.anatomy import RETINA, Anatomy
from ppi_med.phantoms.oct.grid import Field, Grid
from ppi_med.phantoms.oct.lesions import Findings
from ppi_med.phantoms.oct.spec import Site

SIGNAL_DB = {
    "vitreous": -6.0,
    "RNFL": 23.0,
    "GCL": 16.5,
    "IPL": 19.0,
    "INL": 13.0,
    "OPL": 18.0,
    "ONL": 9.5,
    "ELM": 16.0,
    "IS": 12.0,
    "EZ": 26.0,
    "OS": 17.0,
    "RPE": 30.0,
    "druse": 19.0,
    "Bruch": 24.0,
    "choroid": 19.0,
}
"""Signal of each layer of a healthy eye before attenuation, from the vitreous down."""

BRUCH_MM = 0.010
CHOROID_LOSS_DB_PER_MM = 38.0
ATROPHIC_RPE_DB = 13.0
BLOCK_VOXELS = 3_000_000


@dataclass(frozen=True)
class Volume:
    """One rendered volume, axes as in the file.

    Attributes:
        images: (depth, width, B-scans), uint8.
        lesion: (depth, width, B-scans), uint8, 1 where GA is.
        layer_maps: (B-scans, width, 3): rows of ILM, upper border of the RPE or druse, and
            Bruch's membrane, counted from 1.
    """

    images: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    layer_maps: NDArray[np.float64]


def render(
    rng: np.random.Generator, site: Site, grid: Grid, anatomy: Anatomy, findings: Findings
) -> Volume:
    """Render one visit of an eye."""
    slices, width = grid.shape
    depth = len(grid.z)
    motion, slice_gain = _motion(rng, slices)
    tops = _boundaries(grid, anatomy, findings, motion)
    sclera = tops["choroid"] + anatomy.choroid
    images = np.empty((slices, depth, width), dtype=np.uint8)
    lesion = np.zeros_like(images)
    for part in _blocks(slices, depth * width):
        power = _power(site, grid, anatomy, findings, tops, part) * slice_gain[part, None, None]
        images[part] = _to_grey(rng, site, power)
        below = _below(grid, tops["EZ"][part]) & ~_below(grid, sclera[part])
        lesion[part] = below & findings.lesion[part, None, :]
    layers = np.stack([tops["RNFL"], tops["RPE"], tops["choroid"]], axis=-1)
    return Volume(
        images=np.ascontiguousarray(images.transpose(1, 2, 0)),
        lesion=np.ascontiguousarray(lesion.transpose(1, 2, 0)),
        layer_maps=np.round(layers.astype(np.float64) / grid.spacing_mm[1] + 0.5, 2),
    )


def _motion(rng: np.random.Generator, slices: int) -> tuple[Field, Field]:
    """Return the axial shift in mm and the power gain of each B-scan; some B-scans are dim."""
    steps = np.cumsum(rng.normal(0, 0.004, size=slices))
    shift = np.clip(steps - steps.mean() + rng.normal(0, 0.008, size=slices), -0.05, 0.05)
    gain_db = rng.normal(0, 0.4, size=slices) + rng.normal(0, 0.8)
    dim = rng.random(slices) < 0.05
    gain_db = gain_db - dim * rng.uniform(2, 5, size=slices)
    return shift.astype(np.float32), (10 ** (gain_db / 10)).astype(np.float32)


def _boundaries(
    grid: Grid, anatomy: Anatomy, findings: Findings, motion: Field
) -> dict[str, Field]:
    """Return the upper border of every layer in mm, (S, W), from Bruch's membrane upwards."""
    bruch = anatomy.bruch + motion[:, None]
    thickness = _remaining(grid, anatomy, findings)
    tops = {"Bruch": bruch, "choroid": bruch + BRUCH_MM, "druse": bruch - findings.drusen}
    top = tops["druse"]
    for name in reversed(RETINA):
        top = top - thickness[name]
        tops[name] = top
    return {name: np.asarray(value, dtype=np.float32) for name, value in tops.items()}


def _remaining(grid: Grid, anatomy: Anatomy, findings: Findings) -> dict[str, Field]:
    """Return the thickness of the layers where atrophy, thinning and drusen have changed them."""
    gone, healthy = findings.atrophy, anatomy.thickness
    left = dict(healthy)
    left["RPE"] = healthy["RPE"] * (1 - 0.75 * gone - 0.4 * findings.thinning * (1 - gone))
    for name in ("OS", "EZ", "IS", "ELM"):
        left[name] = healthy[name] * (1 - 0.9 * gone)
    onl = healthy["ONL"] * (1 - 0.65 * gone)
    lost = healthy["ONL"] - onl
    for name in ("RPE", "OS", "EZ", "IS", "ELM"):
        lost = lost + healthy[name] - left[name]
    # The inner retina sinks into the gap, gently: it bridges the steep border of the atrophy.
    sigma = (0.15 / grid.spacing_mm[2], 0.15 / grid.spacing_mm[0])
    onl = onl + lost - 0.8 * gaussian_filter(lost, sigma, mode="nearest")
    # A druse pushes into the layer above; the inner retina hardly moves.
    left["ONL"] = np.maximum(onl - 0.8 * findings.drusen, 0.2 * healthy["ONL"])
    return left


def _power(
    site: Site,
    grid: Grid,
    anatomy: Anatomy,
    findings: Findings,
    tops: dict[str, Field],
    part: slice,
) -> Field:
    """Return the power without noise of some B-scans, (s, D, W)."""
    names = list(SIGNAL_DB)
    db = np.full((part.stop - part.start, len(grid.z), grid.shape[1]), SIGNAL_DB["vitreous"])
    db = db.astype(np.float32)
    levels = _levels(findings, part)
    for above, name in zip(names, names[1:], strict=False):
        share = _share_below(grid, tops[name][part])
        db += (levels[name] - levels[above])[:, None, :] * share
    down = grid.z[None, :, None] - tops["RNFL"][part, None, :]
    db -= site.attenuation_db * np.clip(down, 0, None)
    db += _choroid(grid, anatomy, findings, tops, part)
    vessel_top = (tops["GCL"] + 0.02)[part]
    shadow = anatomy.vessel_shadow[part, None, :] * _share_below(grid, vessel_top)
    wall = 5 * anatomy.vessel[part, None, :] * _share_below(grid, tops["RNFL"][part])
    db += wall - 1.6 * shadow - findings.opacity_db[part, None, :] + site.gain_db
    return np.asarray(10 ** (db / 10), dtype=np.float32)


def _levels(findings: Findings, part: slice) -> dict[str, Field]:
    """Return the signal of every layer in dB, (s, W): healthy, or lost where there is atrophy."""
    shape = findings.atrophy[part].shape
    levels = {name: np.full(shape, value, np.float32) for name, value in SIGNAL_DB.items()}
    gone = findings.atrophy[part]
    thin = np.maximum(gone, 0.7 * findings.thinning[part])
    for name in ("ELM", "IS", "EZ", "OS"):
        levels[name] += (SIGNAL_DB["ONL"] + 2 - SIGNAL_DB[name]) * thin
    levels["RPE"] += (ATROPHIC_RPE_DB - SIGNAL_DB["RPE"]) * np.maximum(
        gone, 0.6 * findings.thinning[part]
    )
    return levels


def _choroid(
    grid: Grid, anatomy: Anatomy, findings: Findings, tops: dict[str, Field], part: slice
) -> Field:
    """Return what is added in dB below Bruch's membrane: decay, vessels, light let through."""
    below = np.clip(grid.z[None, :, None] - tops["choroid"][part, None, :], 0, None)
    inside = _share_below(grid, tops["choroid"][part])
    gain = findings.transmission_db[part, None, :]
    # Where more light comes through it also reaches deeper.
    loss = CHOROID_LOSS_DB_PER_MM * (1 - 0.04 * np.clip(gain, 0, 10))
    within = below < anatomy.choroid[part, None, :]
    large, small = (noise(grid.y[part], grid.z, grid.x) for noise in anatomy.texture)
    vessels = np.where(within, 2.6, 1.0) * (0.8 * large + 0.6 * small)
    return np.asarray(inside * (gain - loss * below + vessels), dtype=np.float32)


def _share_below(grid: Grid, top: Field) -> Field:
    """Return which part of each sample lies below a border, 0 to 1, shape (s, D, W)."""
    step = grid.spacing_mm[1]
    share = (grid.z[None, :, None] - top[:, None, :]) / np.float32(step) + np.float32(0.5)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float32)


def _below(grid: Grid, top: Field) -> NDArray[np.bool_]:
    return np.asarray(grid.z[None, :, None] >= top[:, None, :])


def _to_grey(rng: np.random.Generator, site: Site, power: Field) -> NDArray[np.uint8]:
    """Return what the scanner shows: floor, gamma-distributed speckle, blur, logarithm, window."""
    power = power + np.float32(10 ** (site.floor_db / 10))
    power *= rng.standard_gamma(site.looks, size=power.shape, dtype=np.float32) / site.looks
    power = gaussian_filter(power, sigma=(0.0, *site.blur_px), mode="nearest", truncate=3.0)
    low, high = site.window_db
    shown = (10 * np.log10(np.maximum(power, 1e-3)) - low) / (high - low)
    grey = 255 * np.clip(shown, 0, 1) ** site.gamma
    if site.grey_noise:
        grey += site.grey_noise * rng.standard_normal(grey.shape, dtype=np.float32)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _blocks(slices: int, voxels_a_slice: int) -> Iterator[slice]:
    """Yield runs of B-scans that bound the memory; they depend on the size alone."""
    step = max(1, BLOCK_VOXELS // voxels_a_slice)
    for start in range(0, slices, step):
        yield slice(start, min(start + step, slices))
