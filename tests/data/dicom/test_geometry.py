"""Geometry: order, steps, gaps, tilt, shared positions, on stacks made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppi_med.data.dicom.geometry import Stack, Tolerances, examine_stack
from ppi_med.data.dicom.header import Header, Place
from ppi_med.data.dicom.verdict import Policy, judge

FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stack_of(heights: list[float], **changes: Any) -> Stack:
    places = [Place((0.0, 0.0, z), FLAT, (0.7, 0.7)) for z in heights]
    names = [f"instance {i}" for i in range(len(heights))]
    return examine_stack(places, names, Tolerances(**changes))


def codes(stack: Stack) -> list[str]:
    return [reason.code for reason in stack.reasons]


def headers(heights: list[float], **changes: Any) -> list[Header]:
    base = {"series": "1", "rows": 4, "columns": 4, "samples": 1, "frames": None}
    return [
        Header(
            **base | {"instance": str(i), "number": i} | changes,
            places=(Place((0.0, 0.0, z), FLAT, (0.7, 0.7)),),
        )
        for i, z in enumerate(heights)
    ]


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        result = result @ turn
    return result


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.3, 8),
    order=st.permutations(range(6)),
)
def test_a_regular_stack_in_any_direction(angles: Any, step: float, order: list[int]) -> None:
    turn = rotation(angles)
    orientation = tuple(np.concatenate([turn[:, 0], turn[:, 1]]))
    normal = np.cross(turn[:, 0], turn[:, 1])
    places = [Place(tuple(normal * step * k), orientation, (1.0, 1.0)) for k in order]
    stack = examine_stack(places, [str(k) for k in order])
    assert stack.reasons == []
    assert [order[i] for i in stack.order] == list(range(6))
    assert stack.step_mm == pytest.approx(step, abs=1e-5)
    assert stack.tilt_deg == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("angle", [1.0, 14.0, 18.5, 30.0])
def test_tilt_is_measured(angle: float) -> None:
    shift = math.tan(math.radians(angle)) * 5
    places = [Place((0.0, shift * k, 5.0 * k), FLAT, (1.0, 1.0)) for k in range(4)]
    stack = examine_stack(places, list("abcd"))
    assert codes(stack) == ["tilt"] and stack.tilt_deg == pytest.approx(angle, abs=0.01)


def test_a_slow_drift_is_a_tilt() -> None:
    places = [Place((0.0, 0.04 * k, 1.0 * k), FLAT, (1.0, 1.0)) for k in range(40)]
    assert codes(examine_stack(places, [str(k) for k in range(40)])) == ["tilt"]


@pytest.mark.parametrize(
    ("heights", "expected", "gaps"),
    [
        ([0, 5, 10, 20], ["gap"], 1),
        ([0, 1, 2, 6, 7, 9], ["gap", "gap"], 4),
        ([0, 5, 10.000002], [], 0),
        ([0, 5, 10.05, 15], ["irregular"], 0),
        ([0, 4, 5.1, 12.1], ["irregular"], 0),
        ([0, 0, 5, 10], ["shared_positions"], 0),
        ([3], [], 0),
    ],
)
def test_steps(heights: list[float], expected: list[str], gaps: int) -> None:
    stack = stack_of(heights)
    assert codes(stack) == expected and stack.gaps == gaps


def test_tolerance_decides() -> None:
    assert codes(stack_of([0, 5, 10.05, 15])) == ["irregular"]
    assert codes(stack_of([0, 5, 10.05, 15], step_mm=0.1)) == []
    with pytest.raises(ValueError, match="step_mm is -1"):
        Tolerances(step_mm=-1)


def test_lenient_keeps_rounding_and_copies_only() -> None:
    rounded = headers([0, 0.6, 1.3, 1.9])
    assert judge(rounded).status == "refused"
    lenient = judge(rounded, Policy("lenient"))
    assert lenient.status == "volume" and "unequal steps" in lenient.warnings[0]
    assert judge(headers([0, 5, 10, 20]), Policy("lenient")).status == "refused"
    copies = [*headers([0, 5, 10]), headers([0])[0]]
    assert judge(copies).status == "refused"
    assert judge(copies, Policy("lenient")).status == "volume"
    others = [*headers([0, 5, 10]), headers([1])[0]]
    assert judge(others, Policy("lenient")).status == "refused"


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.45, 8),
    start=st.tuples(*[st.floats(-300, 300)] * 3),
    count=st.integers(3, 120),
)
def test_positions_with_one_decimal_are_kept_in_lenient_mode(
    angles: Any, step: float, start: Any, count: int
) -> None:
    turn = rotation(angles)
    orientation = tuple(np.concatenate([turn[:, 0], turn[:, 1]]))
    normal = np.cross(turn[:, 0], turn[:, 1])
    exact = np.array(start) + np.arange(count)[:, None] * step * normal
    rounded = [Place(tuple(np.round(p, 1)), orientation, (1.0, 1.0)) for p in exact]
    stack = examine_stack(rounded, [f"{k:03}" for k in range(count)])
    assert stack.order == list(range(count)) and all(r.harmless for r in stack.reasons)
    assert abs((stack.step_mm or 0) - step) <= 0.2 / (count - 1) + 1e-6
    # One slice that is missing, or one that is moved, is no rounding.
    without = rounded[:1] + rounded[2:]
    found = examine_stack(without, [str(k) for k in range(count - 1)])
    assert count == 3 or any(not reason.harmless for reason in found.reasons)
    moved = [*rounded[:-1], Place(tuple(np.round(exact[-1] + 0.7 * turn[:, 0], 1)), orientation,
                                  (1.0, 1.0))]  # fmt: skip
    found = examine_stack(moved, [f"{k:03}" for k in range(count)])
    assert any(not reason.harmless for reason in found.reasons)


def test_allowed_reasons_are_warnings() -> None:
    verdict = judge(headers([0, 5, 10, 20]), Policy(allow=("gap",)))
    assert verdict.status == "volume" and "gap between" in verdict.warnings[0]
    with pytest.raises(ValueError, match="allow names 'gaps'"):
        Policy(allow=("gaps",))


def test_all_reasons_are_told() -> None:
    verdict = judge(headers([0, 5, 20], samples=3))
    assert [reason.code for reason in verdict.reasons] == ["colour", "gap"]


def test_mixed_sizes() -> None:
    mixed = headers([0, 5]) + headers([10], rows=8, instance="x")
    assert [reason.code for reason in judge(mixed).reasons] == ["mixed_size"]


def test_the_tag_may_lie() -> None:
    verdict = judge(headers([0, 5, 10], tilt=12.0))
    assert verdict.status == "volume" and "GantryDetectorTilt says 12 deg" in verdict.warnings[0]
