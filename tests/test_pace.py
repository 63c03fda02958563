"""What is said to whoever waits."""

from __future__ import annotations

import pytest

from ppi_med import pace
from ppi_med.pace import Pace


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def test_a_line_every_ten_seconds_with_the_rest(clock: Clock) -> None:
    said: list[str] = []
    loop = Pace(100, "cases read", said.append)
    for _ in range(100):
        clock.now += 0.5
        loop.step()
    assert said == [
        "cases read: 20 of 100, about 40 s left",
        "cases read: 40 of 100, about 30 s left",
        "cases read: 60 of 100, about 20 s left",
        "cases read: 80 of 100, about 10 s left",
    ]


def test_a_short_loop_is_silent(clock: Clock) -> None:
    said: list[str] = []
    loop = Pace(10, "cases read", said.append)
    for _ in range(10):
        clock.now += 0.9
        loop.step()
    assert not said


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        (0.5, ""),
        (5.0, ", about 45 s left"),
        (60.0, ", about 9 min left"),
        (3600.0, ", about 9.0 h left"),
    ],
)
def test_the_rest_in_words(clock: Clock, seconds: float, left: str) -> None:
    loop = Pace(10)
    assert loop.left() == ""
    clock.now += seconds
    loop.step()
    assert loop.left() == left
