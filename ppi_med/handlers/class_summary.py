"""The result of a classifier of K classes on held-out images: said, kept as JSON, recorded."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from scipy.stats import binomtest

from ppi_med.handlers.class_cases import AREA, ENERGY_ALL, ENERGY_TOP, POINTING, Row
from ppi_med.handlers.held_out_summary import HeldOutSummary, measures_of
from ppi_med.naming import TEST_ACCURACY, metric

logger = logging.getLogger(__name__)

_LOCALISATION = (ENERGY_TOP, ENERGY_ALL, POINTING, AREA)


class ClassSummary(HeldOutSummary):
    """Measures the cases of an evaluation; one of `test#handlers`, behind `ClassCases`.

    `test/accuracy` of all cases with Wilson's 95 % interval; where they are of several sites
    (conditions, such as swapped backgrounds) also `test/accuracy/<site>`; where maps were
    measured `test/energy_top`, `test/energy_all`, `test/pointing` and `test/box_area`.

    Arguments and attributes are those of `HeldOutSummary`.

    Examples:
        >>> ClassSummary().result is None
        True
    """

    def measure(self, engine: Engine) -> dict[str, Any]:
        """Return accuracy, by site too, and how well maps meet the boxes."""
        return summarise_cases(engine.state.cases)  # type: ignore[attr-defined]

    def say(self, result: dict[str, Any]) -> None:
        """Tell all measures in one line."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in measures_of(result).items())
        logger.info("held-out cases: %d; %s", result["cases"], shown)


def summarise_cases(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the measures of cases by name.

    Args:
        rows: rows of `ClassCases`.

    Raises:
        ValueError: where there is none.
    """
    if not rows:
        raise ValueError("Got no cases, expected at least one: check what was selected.")
    right = [row["label"] == row["predicted"] for row in rows]
    interval = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
    result: dict[str, Any] = {
        TEST_ACCURACY: sum(right) / len(right),
        f"{TEST_ACCURACY}_low": float(interval.low),
        f"{TEST_ACCURACY}_high": float(interval.high),
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
