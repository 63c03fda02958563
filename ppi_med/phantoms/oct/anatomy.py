"""The healthy eye of one subject: layers with a fovea, vessels, choroid. The same at every visit.

Everything is in mm and independent of the resolution, except for the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppi_med.phantoms.oct.grid import FIELD_MM, Field, Grid, SmoothNoise

RETINA = ("RNFL", "GCL", "IPL", "INL", "OPL", "ONL", "ELM", "IS", "EZ", "OS", "RPE")
"""The layers from the vitreous down to Bruch's membrane."""


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of an eye, the same at all visits.

    Attributes:
        bruch: (S, W) depth of Bruch's membrane in mm.
        thickness: layer of `RETINA` -> (S, W) thickness in mm.
        choroid: (S, W) thickness of the choroid in mm.
        vessel_shadow: (S, W) loss of signal in dB below the retinal vessels.
        vessel: (S, W) 0 to 1, where a retinal vessel is.
        fovea: its place (x, y) in mm.
        texture: two sizes of noise of the choroid's vessels, evaluated on (y, z, x).
    """

    bruch: Field
    thickness: dict[str, Field]
    choroid: Field
    vessel_shadow: Field
    vessel: Field
    fovea: tuple[float, float]
    texture: tuple[SmoothNoise, SmoothNoise]


def draw_anatomy(rng: np.random.Generator, grid: Grid, eye: str) -> Anatomy:
    """Draw the eye of one subject.

    Args:
        rng: the subject's stream.
        grid: where it is evaluated.
        eye: "OD" or "OS"; nasal is to the right of a B-scan of OD.
    """
    nasal = 1.0 if eye == "OD" else -1.0
    fovea = (float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25)))
    thickness = _thickness(rng, grid, fovea, nasal)
    bruch = _bruch(rng, grid)
    choroid = float(rng.uniform(0.18, 0.32)) * (1 + 0.12 * SmoothNoise(rng, (1.7, 1.7))(*_yx(grid)))
    shadow, vessel = _vessels(rng, grid, fovea, nasal)
    return Anatomy(
        bruch=bruch,
        thickness=thickness,
        choroid=np.clip(choroid, 0.1, 0.4).astype(np.float32),
        vessel_shadow=shadow,
        vessel=vessel,
        fovea=fovea,
        texture=(SmoothNoise(rng, (0.5, 0.09, 0.21)), SmoothNoise(rng, (0.3, 0.045, 0.10))),
    )


def _yx(grid: Grid) -> tuple[Field, Field]:
    return grid.y, grid.x


def _bruch(rng: np.random.Generator, grid: Grid) -> Field:
    """A tilted bowl with a slow waviness, as far as the B-scan has room for it."""
    x, y = grid.x[None, :], grid.y[:, None]
    tilt_x, tilt_y = rng.normal(0, 0.018, size=2)
    bend = rng.uniform(0.006, 0.016)
    base = rng.uniform(0.86, 0.93)
    wave = 0.008 * SmoothNoise(rng, (1.3, 1.3))(*_yx(grid))
    # 3.7 mm^2: the mean square of half the field in both directions
    shape = tilt_x * x + tilt_y * y - bend * ((x**2 + y**2) / 2 - 3.7) + wave
    shape = shape * min(1.0, 0.13 / float(np.abs(shape).max()))
    return np.asarray(base + shape, dtype=np.float32)


def _thickness(
    rng: np.random.Generator, grid: Grid, fovea: tuple[float, float], nasal: float
) -> dict[str, Field]:
    """Thickness of the layers: a pit of the inner layers at the fovea within a thicker ring."""
    radius = grid.radius(*fovea)
    toward_nasal = np.clip(nasal * (grid.x[None, :] - fovea[0]) / (FIELD_MM / 2), -1, 1)
    pit_width = rng.uniform(0.38, 0.55)
    pit = 1 - rng.uniform(0.85, 0.97) * np.exp(-((radius / pit_width) ** 2))
    ring = 1 + 0.35 * np.exp(-(((radius - 1.0) / 0.7) ** 2))
    dome = np.exp(-((radius / 0.5) ** 2))
    scale = rng.uniform(0.9, 1.1)
    wave = SmoothNoise(rng, (1.0, 1.0))(*_yx(grid))
    flat = np.ones(grid.shape, dtype=np.float32)
    mm = {
        "RNFL": (0.024 + 0.018 * (1 + toward_nasal)) * pit,
        "GCL": 0.042 * ring * pit,
        "IPL": 0.036 * ring * pit,
        "INL": 0.034 * pit,
        "OPL": 0.030 * (0.25 + 0.75 * pit),
        "ONL": 0.068 + 0.035 * dome + 0.003 * wave,
        "ELM": 0.009 * flat,
        "IS": 0.020 * flat,
        "EZ": 0.020 * flat,
        "OS": 0.022 * flat + 0.012 * dome,
        "RPE": 0.028 * flat,
    }
    return {name: np.asarray(scale * value, dtype=np.float32) for name, value in mm.items()}


def _vessels(
    rng: np.random.Generator, grid: Grid, fovea: tuple[float, float], nasal: float
) -> tuple[Field, Field]:
    """Two arcades round the fovea: (S, W) shadow in dB, and (S, W) where vessels are, 0 to 1."""
    shadow = np.zeros(grid.shape, dtype=np.float32)
    vessel = np.zeros(grid.shape, dtype=np.float32)
    for path, radius in _paths(rng, fovea, nasal):
        distance = _distance(grid, path)
        # Not thinner than a sample, else a vessel between two A-scans would vanish.
        radius = max(radius, 0.6 * grid.spacing_mm[0])
        inside = np.exp(-((distance / radius) ** 4)).astype(np.float32)
        vessel = np.maximum(vessel, inside)
        shadow = np.maximum(shadow, float(rng.uniform(6, 11)) * inside)
    return shadow, vessel


def _paths(
    rng: np.random.Generator, fovea: tuple[float, float], nasal: float
) -> list[tuple[NDArray[np.float64], float]]:
    """Return the vessels' courses as points (n, 2) in mm with their radii in mm."""
    t = np.linspace(0, 1, 41)
    paths = []
    for side in (-1.0, 1.0):
        for _ in range(2):  # an artery and a vein
            height = rng.uniform(1.7, 2.9)
            wave = rng.normal(0, 0.10) * np.sin(2 * np.pi * (2 * t + rng.uniform()))
            x = nasal * (4.2 - 8.4 * t)
            y = side * (height * (1 - 0.55 * (2 * t - 0.9) ** 2) + wave)
            main = np.stack([x + fovea[0], y + fovea[1]], axis=1)
            paths.append((main, float(rng.uniform(0.045, 0.075))))
            for _ in range(int(rng.integers(2, 5))):
                paths.append((_branch(rng, main, fovea), float(rng.uniform(0.02, 0.04))))
    return paths


def _branch(
    rng: np.random.Generator, main: NDArray[np.float64], fovea: tuple[float, float]
) -> NDArray[np.float64]:
    """A side branch: from a point of the arcade towards the fovea, ending before its free zone."""
    start = main[int(rng.integers(8, 33))]
    end = np.asarray(fovea) + rng.normal(0, 0.7, size=2)
    away = start - np.asarray(fovea)
    end = end + 0.6 * away / max(float(np.hypot(*away)), 0.1)
    t = np.linspace(0, 1, 16)[:, None]
    across = np.array([-away[1], away[0]]) * rng.normal(0, 0.12)
    return np.asarray(start + (end - start) * t + across * np.sin(np.pi * t))


def _distance(grid: Grid, path: NDArray[np.float64]) -> Field:
    """Return the en-face distance (S, W) in mm to a course of straight pieces."""
    nearest = np.full(grid.shape, np.inf, dtype=np.float32)
    for (x, y), (dx, dy) in zip(path[:-1], np.diff(path, axis=0), strict=True):
        from_x = grid.x[None, :] - np.float32(x)
        from_y = grid.y[:, None] - np.float32(y)
        length = np.float32(max(dx * dx + dy * dy, 1e-9))
        along = np.clip((from_x * np.float32(dx) + from_y * np.float32(dy)) / length, 0, 1)
        square = (from_x - along * np.float32(dx)) ** 2 + (from_y - along * np.float32(dy)) ** 2
        np.minimum(nearest, square, out=nearest)
    return np.sqrt(nearest)
