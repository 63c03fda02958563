"""Geographic atrophy and its distractors: drusen, thin RPE, brightness from below, shadows.

Everything here is an en-face map (S, W). The distractors are drawn alike in both classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ppi_med.phantoms.oct.grid import FIELD_MM, Field, Grid, SmoothNoise

EARLY = 0.15
"""Part of the eyes with GA whose lesion is small and faint: many of them are missed."""
MIMIC = 0.2
"""Part of all eyes with larger patches of thin RPE, bright below, which are not GA."""


@dataclass(frozen=True)
class Focus:
    """One patch of atrophy with an irregular outline.

    Attributes:
        centre: (x, y) in mm.
        radius: mean radius in mm when it is first seen.
        growth: mm of radius a visit.
        waves: (n, 2) amplitude and phase of the outline's waves of 2, 3 ... cycles.
    """

    centre: tuple[float, float]
    radius: float
    growth: float
    waves: NDArray[np.float64]

    def inside(self, grid: Grid, age: float, least: float) -> Field:
        """Return the distance to the outline in mm, above 0 inside, shape (S, W).

        Args:
            grid: where it is evaluated.
            age: visits since it was first seen.
            least: radius in mm below which the grid could miss it.
        """
        dx = grid.x[None, :] - self.centre[0]
        dy = grid.y[:, None] - self.centre[1]
        angle = np.arctan2(dy, dx)
        outline = np.ones(grid.shape)
        for cycles, (amplitude, phase) in enumerate(self.waves, start=2):
            outline += amplitude * np.cos(cycles * angle + phase)
        radius = max(self.radius + self.growth * age, least)
        return np.asarray(radius * outline - np.hypot(dx, dy), dtype=np.float32)


@dataclass(frozen=True)
class Atrophy:
    """The GA of one eye: foci that touch, so that the lesion is one region.

    Attributes:
        foci: the first is the main one.
        severity: 0 to 1, how much of the RPE is gone.
        transmission_db: gain of the signal below.
    """

    foci: tuple[Focus, ...]
    severity: float
    transmission_db: float


@dataclass(frozen=True)
class Findings:
    """The findings of a visit, as en-face maps (S, W).

    Attributes:
        lesion: True where there is GA.
        atrophy: 0 to 1, loss of RPE and outer retina, with soft borders.
        thinning: 0 to 1, loss of RPE that is not GA: thin over a small place, or not lost wholly.
        transmission_db: gain of the signal below the RPE, of all causes.
        drusen: height in mm.
        opacity_db: loss of signal from the vitreous down, from opacities.
    """

    lesion: NDArray[np.bool_]
    atrophy: Field
    thinning: Field
    transmission_db: Field
    drusen: Field
    opacity_db: Field


def draw_atrophy(
    rng: np.random.Generator, fovea: tuple[float, float], half_width: float
) -> Atrophy:
    """Draw the GA that an eye has or would have.

    Args:
        rng: the subject's stream.
        fovea: (x, y) in mm; atrophy lies round it.
        half_width: half width of the scan in mm; the lesion's centre stays inside.
    """
    room = np.array([half_width - 0.7, FIELD_MM / 2 - 0.7])
    centre = np.clip(np.asarray(fovea) + rng.normal(0, 0.9, size=2), -room, room)
    early = rng.random() < EARLY
    radius = float(np.clip(rng.lognormal(np.log(0.95), 0.45), 0.35, 1.9))
    severity, transmission = float(rng.uniform(0.6, 1.0)), float(rng.uniform(4.0, 9.0))
    if early:
        radius, severity, transmission = 0.35 + 0.1 * radius, 0.75 * severity, 0.6 * transmission
    foci = [_focus(rng, centre, radius)]
    if not early and rng.random() < 0.35:
        small = radius * rng.uniform(0.4, 0.7)
        angle = rng.uniform(0, 2 * np.pi)
        # Less than the sum of the smallest radii: the two overlap at every visit.
        step = 0.45 * (radius + small) * np.array([np.cos(angle), np.sin(angle)])
        foci.append(_focus(rng, np.clip(centre + step, -room, room), small))
    return Atrophy(tuple(foci), severity, transmission)


def _focus(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> Focus:
    amplitude = rng.uniform(0.0, 0.1, size=3)
    phase = rng.uniform(0, 2 * np.pi, size=3)
    return Focus(
        centre=(float(centre[0]), float(centre[1])),
        radius=radius,
        growth=float(rng.uniform(0.06, 0.25)),
        waves=np.stack([amplitude, phase], axis=1),
    )


def lesion_map(atrophy: Atrophy, grid: Grid, age: float | None) -> tuple[NDArray[np.bool_], Field]:
    """Return where GA is, and its degree with soft borders, both (S, W).

    Args:
        atrophy: atrophy of the eye.
        grid: where it is evaluated.
        age: visits since GA was first seen; None before that: nothing anywhere.
    """
    if age is None:
        return np.zeros(grid.shape, dtype=bool), np.zeros(grid.shape, dtype=np.float32)
    lateral, _, between = grid.spacing_mm
    least = 1.4 * max(lateral, between)  # so that the smallest lesion is on two B-scans
    inside = np.max([f.inside(grid, age, least) for f in atrophy.foci], axis=0)
    soft = np.clip(0.5 + inside / 0.12, 0, 1)
    return inside > 0, np.asarray(soft * atrophy.severity, dtype=np.float32)


def draw_findings(
    rng: np.random.Generator, grid: Grid, atrophy: Atrophy, ages: list[float | None]
) -> list[Findings]:
    """Draw the findings of each visit of an eye: the lesion grows, the distractors mostly stay.

    Args:
        rng: the subject's stream for distractors.
        grid: where they are evaluated.
        atrophy: atrophy of the eye.
        ages: for each visit, visits since GA was first seen, or None before.
    """
    half = (float(grid.x[-1]), float(grid.y[-1]))
    drusen = _drusen(rng, grid, half)
    thinning = _bumps(rng, grid, half, mean=1.6, radius=(0.10, 0.24), height=(0.3, 0.9))
    if rng.random() < MIMIC:
        patch = _bumps(rng, grid, half, mean=1.5, radius=(0.3, 0.7), height=(0.6, 1.0))
        thinning = np.maximum(thinning, patch)
    faint = _bumps(rng, grid, half, mean=2.0, radius=(0.2, 0.8), height=(1.5, 6.0))
    slow = 1.2 * SmoothNoise(rng, (1.2, 1.2))(grid.y, grid.x)
    stripes = 0.8 + 0.25 * SmoothNoise(rng, (0.25, 0.09))(grid.y, grid.x)
    found = []
    for visit, age in enumerate(ages):
        lesion, degree = lesion_map(atrophy, grid, age)
        gain = np.maximum(degree / atrophy.severity * atrophy.transmission_db, faint)
        gain = np.maximum(gain, 5.0 * thinning) * np.clip(stripes, 0.3, 1.4)
        found.append(
            Findings(
                lesion=lesion,
                atrophy=degree,
                thinning=thinning,
                transmission_db=np.asarray(gain + slow, dtype=np.float32),
                drusen=np.asarray(drusen * (1 + 0.15 * visit) * (1 - degree), dtype=np.float32),
                opacity_db=_bumps(rng, grid, half, 0.8, (0.3, 1.4), (2.0, 7.0)),
            )
        )
    return found


def _drusen(rng: np.random.Generator, grid: Grid, half: tuple[float, float]) -> Field:
    """Domes of 0.03 to 0.2 mm radius, few or many."""
    mean = float(rng.choice([2.0, 10.0, 30.0]))
    return _bumps(rng, grid, half, mean=mean, radius=(0.05, 0.24), height=(0.015, 0.065))


def _bumps(
    rng: np.random.Generator,
    grid: Grid,
    half: tuple[float, float],
    mean: float,
    radius: tuple[float, float],
    height: tuple[float, float],
) -> Field:
    """Return the highest of a random number of flat-topped bumps at each point, (S, W)."""
    top = np.zeros(grid.shape, dtype=np.float32)
    for _ in range(int(rng.poisson(mean))):
        x, y = rng.uniform(-half[0], half[0]), rng.uniform(-half[1], half[1])
        size, peak = rng.uniform(*radius), rng.uniform(*height)
        bump = peak * np.exp(-((grid.radius(x, y) / size) ** 4))
        top = np.maximum(top, bump.astype(np.float32))
    return top
