"""The base of the handlers: each lists its steps, and is attached to an engine once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ignite.engine import Engine

Steps = Sequence[tuple[Any, Callable[..., Any]]]


class Handler(ABC):
    """A handler of a trainer or an evaluator, attached by name in a bundle's `handlers`."""

    @abstractmethod
    def _steps(self) -> Steps:
        """Return pairs of an event and its function, in order."""

    def attach(self, engine: Engine) -> None:
        """Attach to an engine.

        Raises:
            RuntimeError: if it is attached to it already.
        """
        steps = self._steps()
        event, own = steps[0]
        if engine.has_event_handler(own, event):
            raise RuntimeError(f"{type(self).__name__} is attached once: name it once in handlers.")
        for event, step in steps:
            engine.add_event_handler(event, step)
