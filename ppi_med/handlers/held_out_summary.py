"""What the results on held-out data have in common: kept as JSON, recorded, said, run closed."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ppi_med.io import write_json
from ppi_med.tracking import NullTracker, Tracker
from ppi_med.training.steps import on_failure

logger = logging.getLogger(__name__)


class HeldOutSummary(ABC):
    """Measures an evaluation when it has ended, on the first process only.

    Args:
        path: path of the JSON; None writes none.
        tracker: records the numbers in the run (those with a `/` in their name); None does not.
        finish: close the tracker's run afterwards, also where the evaluation fails.
        notes: lines to say in the end, such as where the pictures are.

    Attributes:
        result: what was written, None before.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        tracker: Tracker | None = None,
        finish: bool = False,
        notes: Sequence[str] = (),
    ) -> None:
        self.path = None if path is None else Path(path)
        self.tracker = tracker if tracker is not None else NullTracker()
        self.finish = finish
        self.notes = tuple(notes)
        self.result: dict[str, Any] | None = None

    @abstractmethod
    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return the measures by name, and counts."""

    @abstractmethod
    def say(self, result: dict[str, Any]) -> None:
        """Tell the result on the console."""

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._summarise, Events.COMPLETED):
            name = type(self).__name__
            raise RuntimeError(f"A {name} is attached once: name it once in handlers.")
        # In an evaluation of its own nobody else opens the run.
        engine.add_event_handler(Events.STARTED, self.tracker.start)
        engine.add_event_handler(Events.COMPLETED, self._summarise)
        if self.finish:
            on_failure(engine, self._fail)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        from ppi_med.tracking.ending import status_of

        self.tracker.finish(status_of(error))

    def _summarise(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) > 0:
            return
        self.result = self.measure(engine)
        if self.path is not None:
            write_json(self.path, self.result)
        self.tracker.log_metrics(measures_of(self.result), step=0)
        if self.finish:
            self.tracker.finish()
        self.say(self.result)
        for note in self.notes:
            logger.info("%s", note)


def measures_of(result: dict[str, Any]) -> dict[str, float]:
    """Return what is recorded of a result: its measures, not its counts.

    >>> measures_of({"test/auc": 0.9, "cases": 12})
    {'test/auc': 0.9}
    """
    return {name: float(value) for name, value in result.items() if "/" in name}
