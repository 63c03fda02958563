"""The result of a classifier of K classes on held-out images: said, kept as JSON, recorded."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ppi_med.handlers.class_cases import AREA, ENERGY_ALL, ENERGY_TOP, POINTING, Row
from ppi_med.io import write_json
from ppi_med.naming import TEST_ACCURACY, metric
from ppi_med.tracking import NullTracker, Tracker

logger = logging.getLogger(__name__)

_LOCALISATION = (ENERGY_TOP, ENERGY_ALL, POINTING, AREA)
_Z95 = 1.959963984540054


class ClassSummary:
    """Measures the cases of an evaluation; one of ``test#handlers``, behind `ClassCases`.

    ``test/accuracy`` of all cases with Wilson's 95 % interval; where they are of several sites
    (conditions, such as swapped backgrounds) also ``test/accuracy/<site>``; where maps were
    measured ``test/energy_top``, ``test/energy_all``, ``test/pointing`` and ``test/box_area``.

    Args:
        path: of the JSON; None writes none.
        tracker: records the numbers in the run; None does not.
        finish: close the tracker's run afterwards, also where the evaluation fails.
        notes: lines to say in the end.

    Attributes:
        result: what was written, None before.

    Example:
        >>> ClassSummary().result is None
        True
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

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._summarise, Events.COMPLETED):
            raise RuntimeError("A ClassSummary is attached once: name it once in handlers.")
        # In an evaluation of its own nobody else opens the run.
        engine.add_event_handler(Events.STARTED, self.tracker.start)
        engine.add_event_handler(Events.COMPLETED, self._summarise)
        if self.finish:
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        from ppi_med.tracking.ending import status_of

        self.tracker.finish(status_of(error))
        # With a handler on this event ignite leaves raising to it.
        raise error

    def _summarise(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) > 0:
            return
        self.result = summarise_cases(engine.state.cases)  # type: ignore[attr-defined]
        if self.path is not None:
            write_json(self.path, self.result)
        measured = {name: float(value) for name, value in self.result.items() if "/" in name}
        self.tracker.log_metrics(measured, step=0)
        if self.finish:
            self.tracker.finish()
        shown = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
        logger.info("held-out cases: %d; %s", self.result["cases"], shown)
        for note in self.notes:
            logger.info("%s", note)


def summarise_cases(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the measures of cases by name.

    Args:
        rows: of :class:`~ppi_med.handlers.class_cases.ClassCases`.

    Raises:
        ValueError: where there is none.
    """
    if not rows:
        raise ValueError("Got no cases, expected at least one: check what was selected.")
    right = [row["label"] == row["predicted"] for row in rows]
    low, high = wilson_interval(sum(right), len(right))
    result: dict[str, Any] = {
        TEST_ACCURACY: sum(right) / len(right),
        f"{TEST_ACCURACY}_low": low,
        f"{TEST_ACCURACY}_high": high,
    }
    sites = sorted({row["site"] for row in rows})
    for site in sites if len(sites) > 1 else ():
        own = [ok for ok, row in zip(right, rows, strict=True) if row["site"] == site]
        result[f"{TEST_ACCURACY}/{site}"] = sum(own) / len(own)
    for name in _LOCALISATION:
        found = [row[name] for row in rows if not math.isnan(row.get(name, math.nan))]
        if found:
            result[metric("test", name)] = sum(found) / len(found)
    return result | {"cases": len(rows), "classes": len({row["label"] for row in rows})}


def wilson_interval(right: int, cases: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share.

    Examples:
        >>> [round(end, 3) for end in wilson_interval(8, 10)]
        [0.49, 0.943]
    """
    share, square = right / cases, _Z95**2
    centre = (share + square / (2 * cases)) / (1 + square / cases)
    half = _Z95 * math.sqrt(share * (1 - share) / cases + square / (4 * cases**2))
    half /= 1 + square / cases
    return centre - half, centre + half
