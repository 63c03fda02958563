"""Whether slices are a regular stack: order along the normal, steps, gaps, tilt; in mm.

Nothing is averaged. Whatever exceeds a tolerance is a reason against the volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.dicom.header import Place


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of equality, in mm except for directions.

    Attributes:
        shared_mm: two slices nearer than this along the normal share a position.
        step_mm: deviation of one step from the stack's.
        lateral_mm: shift across the normal from one slice to the next; more is a tilted gantry.
        drift_mm: the same over the whole stack.
        spacing_mm: difference between the slices' pixel spacings.
        direction: difference between direction cosines.
        harmless_step_mm: deviations of the steps up to this are kept with a warning in lenient
            mode. If all positions are written with one decimal, it is the deviation of a position
            from a regular stack, in each coordinate.
    """

    shared_mm: float = 0.005
    step_mm: float = 0.02
    lateral_mm: float = 0.05
    drift_mm: float = 0.5
    spacing_mm: float = 0.001
    direction: float = 1e-3
    harmless_step_mm: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, expected a number of at least 0.")


@dataclass(frozen=True)
class Reason:
    """A reason against a volume.

    Attributes:
        code: short name, see `verdict.CODES`.
        text: a sentence.
        harmless: lenient mode keeps the series, with the text as a warning.
    """

    code: str
    text: str
    harmless: bool = False


Plane = Literal["", "axial", "coronal", "sagittal", "oblique"]


@dataclass
class Stack:
    """The facts from the slices' places.

    Attributes:
        order: indices of the slices along the normal, the lowest first.
        normal: rows x columns.
        plane: the nearest anatomical plane; "oblique" if more than 20 degrees off.
        oblique_deg: angle of the normal to the nearest axis.
        spacing: between rows, between columns.
        step_mm: the usual step along the normal.
        tilt_deg: angle between the steps and the normal.
        gaps: missing slices.
        shared: positions with more than one slice.
        reasons: reasons against a volume.
    """

    order: list[int] = field(default_factory=list)
    normal: tuple[float, float, float] | None = None
    plane: Plane = ""
    oblique_deg: float | None = None
    spacing: tuple[float, ...] | None = None
    step_mm: float | None = None
    tilt_deg: float | None = None
    gaps: int = 0
    shared: int = 0
    reasons: list[Reason] = field(default_factory=list)


def examine_stack(
    places: Sequence[Place], names: Sequence[str], tolerances: Tolerances | None = None
) -> Stack:
    """Order slices along their normal and list the faults of the stack.

    Args:
        places: places of the slices.
        names: names of the slices, for the texts, such as "instance 7".
        tolerances: in mm.

    Returns:
        The stack, with all reasons against it.

    Examples:
        >>> flat = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        >>> places = [Place((0.0, 0.0, z), flat, (0.7, 0.7)) for z in (5.0, 0.0, 15.0)]
        >>> stack = examine_stack(places, ["a", "b", "c"])
        >>> stack.order, stack.step_mm, stack.reasons[0].text
        ([1, 0, 2], 5.0, 'gap between z=5 and z=15 (a, c): 10 mm where the step is 5 mm')
    """
    tolerances = tolerances or Tolerances()
    stack = Stack()
    _check_known(stack, places)
    spacings = [place.spacing for place in places if place.spacing]
    stack.spacing = spacings[0] if spacings else None
    if spacings and np.ptp(np.array(spacings), axis=0).max() > tolerances.spacing_mm:
        kinds = len({tuple(round(v, 3) for v in spacing) for spacing in spacings})
        text = f"{_count(kinds)} pixel sizes in one series"
        stack.reasons.append(Reason("mixed_spacing", text))
    if spacings and min(min(spacing) for spacing in spacings) <= 0:
        stack.reasons.append(Reason("no_geometry", "a pixel spacing that is not above 0"))
    if not _set_orientation(stack, places, tolerances):
        return stack
    if all(place.position for place in places):
        _examine_positions(stack, places, names, tolerances)
    return stack


def _check_known(stack: Stack, places: Sequence[Place]) -> None:
    missing = [
        word
        for word, name in (
            ("position", "position"),
            ("orientation", "orientation"),
            ("pixel spacing", "spacing"),
        )
        if not all(getattr(place, name) for place in places)
    ]
    if missing:
        stack.reasons.append(Reason("no_geometry", f"no {', '.join(missing)}"))


def _set_orientation(stack: Stack, places: Sequence[Place], tolerances: Tolerances) -> bool:
    """Set normal and plane; return whether the slices can be ordered by them."""
    found = [place.orientation for place in places if place.orientation]
    if not found:
        return False
    directions = np.array(found)
    first = directions[0]
    row, column = first[:3], first[3:]
    lengths = abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1)
    if max(float(lengths[0]), float(lengths[1]), abs(float(row @ column))) > 0.01:
        text = "rows and columns are no directions at a right angle"
        stack.reasons.append(Reason("bad_orientation", text))
        return False
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    stack.normal = (float(normal[0]), float(normal[1]), float(normal[2]))
    stack.plane, stack.oblique_deg = _plane(normal)
    if np.abs(directions - first).max() > tolerances.direction:
        kinds = _distinct(directions, tolerances.direction)
        text = f"{_count(kinds)} orientations in one series"
        stack.reasons.append(Reason("mixed_orientation", text))
        return False
    return True


def _examine_positions(
    stack: Stack, places: Sequence[Place], names: Sequence[str], tolerances: Tolerances
) -> None:
    positions = np.array([place.position for place in places])
    depths = positions @ np.array(stack.normal)
    # Ties by name: for shared positions the order must not depend on the search.
    stack.order = sorted(range(len(places)), key=lambda i: _depth_key(depths, names, i))
    unique = _examine_shared(stack, depths, names, tolerances)
    if len(unique) < 2:
        return
    steps = np.diff(depths[unique])
    stack.step_mm = round(float(np.sort(steps)[(len(steps) - 1) // 2]), 6)
    rounded = _is_rounded(positions[unique], tolerances)
    if rounded:
        # The usual step is rounded too: the whole stack gives a better value.
        stack.step_mm = round(float(steps.sum()) / len(steps), 6)
    _examine_tilt(stack, positions[unique], steps, rounded, tolerances)
    _examine_steps(stack, positions, unique, steps, names, rounded, tolerances)


def _is_rounded(positions: NDArray[np.float64], tolerances: Tolerances) -> bool:
    """Say whether this is a regular stack with positions rounded to one decimal, in mm."""
    if np.abs(positions * 10 - np.rint(positions * 10)).max() > 1e-3:
        return False
    number = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = number @ positions / (number @ number)
    regular = positions.mean(axis=0) + number[:, None] * step
    return bool(np.abs(positions - regular).max() <= tolerances.harmless_step_mm)


def _examine_shared(
    stack: Stack, depths: NDArray[np.float64], names: Sequence[str], tolerances: Tolerances
) -> list[int]:
    """Return one slice per position."""
    groups: list[list[int]] = []
    for index in stack.order:
        if groups and depths[index] - depths[groups[-1][0]] <= tolerances.shared_mm:
            groups[-1].append(index)
        else:
            groups.append([index])
    doubled = [group for group in groups if len(group) > 1]
    stack.shared = len(doubled)
    if doubled:
        most = max(len(group) for group in doubled)
        text = (
            f"{_count(most)} instances at each of {_count(len(doubled))} positions, first "
            f"{' and '.join(names[i] for i in doubled[0])}"
        )
        stack.reasons.append(Reason("shared_positions", text))
    return [group[0] for group in groups]


def _examine_tilt(
    stack: Stack,
    positions: NDArray[np.float64],
    steps: NDArray[np.float64],
    rounded: bool,
    tolerances: Tolerances,
) -> None:
    normal = np.array(stack.normal)
    moves = np.diff(positions, axis=0)
    across = moves - np.outer(steps, normal)
    whole = across.sum(axis=0)
    stack.tilt_deg = round(
        math.degrees(math.atan2(float(np.linalg.norm(whole)), float(steps.sum()))), 3
    )
    worst = float(np.linalg.norm(across, axis=1).max())
    drift = float(np.linalg.norm(whole))
    if worst > tolerances.lateral_mm or drift > tolerances.drift_mm:
        harmless = rounded and drift <= tolerances.drift_mm
        text = f"gantry tilt {stack.tilt_deg:.1f} deg: {worst:.4g} mm across the normal a slice"
        if harmless:
            text = f"{worst:.4g} mm across the normal a slice (positions with one decimal)"
        stack.reasons.append(Reason("tilt", text, harmless=harmless))


def _examine_steps(
    stack: Stack,
    positions: NDArray[np.float64],
    unique: Sequence[int],
    steps: NDArray[np.float64],
    names: Sequence[str],
    rounded: bool,
    tolerances: Tolerances,
) -> None:
    base = float(np.sort(steps)[(len(steps) - 1) // 2])
    uneven = False
    for number, step in enumerate(steps):
        times = max(1, round(float(step) / base))
        if abs(step - times * base) > tolerances.step_mm * times:
            uneven = True
        elif times > 1:
            stack.gaps += times - 1
            here, there = unique[number], unique[number + 1]
            text = (
                f"gap between {_where(stack, positions[here])} and "
                f"{_where(stack, positions[there])} ({names[here]}, {names[there]}): "
                f"{step:.4g} mm where the step is {base:.4g} mm"
            )
            stack.reasons.append(Reason("gap", text))
    if uneven:
        shown = ", ".join(f"{step:.4f}" for step in steps[:4])
        more = " ..." if len(steps) > 4 else ""
        most = float(np.abs(steps - base).max())
        small = rounded or most <= tolerances.harmless_step_mm + 1e-6
        text = f"unequal steps along the normal: {shown}{more} mm"
        text += " (positions with one decimal)" if rounded else ""
        stack.reasons.append(Reason("irregular", text, harmless=small))


def _depth_key(depths: NDArray[np.float64], names: Sequence[str], index: int) -> tuple[float, str]:
    return float(depths[index]), names[index]


def _where(stack: Stack, position: NDArray[np.float64]) -> str:
    """Name a position by the coordinate along which the stack runs."""
    axis = int(np.abs(np.array(stack.normal)).argmax())
    return f"{'xyz'[axis]}={position[axis]:.9g}"


def _plane(normal: NDArray[np.float64]) -> tuple[Plane, float]:
    axis = int(np.abs(normal).argmax())
    angle = math.degrees(math.acos(min(1.0, float(np.abs(normal).max()))))
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return ("oblique" if angle > 20 else planes[axis]), round(angle, 2)


def _distinct(directions: NDArray[np.float64], tolerance: float) -> int:
    kinds: list[NDArray[np.float64]] = []
    for direction in directions:
        if all(np.abs(direction - kind).max() > tolerance for kind in kinds):
            kinds.append(direction)
    return len(kinds)


def _count(number: int) -> str:
    words = ("no", "one", "two", "three", "four", "five")
    return words[number] if number < len(words) else str(number)
