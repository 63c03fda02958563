"""How far a long loop is and how long the rest will take, for whoever waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

SECONDS = 10.0
"""What takes no longer is not spoken of."""

logger = logging.getLogger(__name__)


class Pace:
    """Says every ten seconds how far a loop is; a short one says nothing.

    Args:
        total: steps of the loop.
        what: what is counted, such as "cases read".
        say: called with a line; None is silent.

    Examples:
        >>> pace = Pace(4, "cases read")
        >>> pace.started -= 60.0
        >>> pace.step(), pace.left()
        (None, ', about 3 min left')
    """

    def __init__(
        self, total: int, what: str = "", say: Callable[[str], object] | None = logger.info
    ) -> None:
        self.total, self.what, self.say = total, what, say
        self.done = 0
        self.started = self._said = time.monotonic()

    def left(self) -> str:
        """Return the rest in words, by the mean step so far; "" for less than ten seconds."""
        if self.done == 0:
            return ""
        seconds = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        if seconds < SECONDS:
            return ""
        if seconds < 90:
            return f", about {seconds:.0f} s left"
        minutes = seconds / 60
        return (
            f", about {minutes:.0f} min left"
            if minutes < 90
            else f", about {minutes / 60:.1f} h left"
        )

    def step(self, count: int = 1) -> None:
        """Count what was done, and say so if ten seconds have passed since the last line."""
        self.done += count
        now = time.monotonic()
        if self.say and now - self._said >= SECONDS and self.done < self.total:
            self._said = now
            self.say(f"{self.what}: {self.done} of {self.total}{self.left()}")
