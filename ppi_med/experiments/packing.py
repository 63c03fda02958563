"""Values of all test cases as one text each, so that a record stays a screen long."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_MISSING = "-"


def pack_predictions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the predictions of a file by column, in the order of the cases' names."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["volume_id"])
    return {
        "volume_id": " ".join(row["volume_id"] for row in rows),
        "subject": " ".join(row["subject"] for row in rows),
        "label": "".join(str(int(row["label"])) for row in rows),
        "score": " ".join(f"{float(row['score']):.5f}" for row in rows),
    }


def pack_values(values: Mapping[str, float], names: Sequence[str]) -> str:
    """Return values from 0 to 1 as thousandths in the order of `names`.

    Examples:
        >>> pack_values({"a": 0.5, "b": float("nan")}, ["b", "a"])
        '- 500'
    """
    found = [values.get(name, np.nan) for name in names]
    return " ".join(_MISSING if np.isnan(v) else f"{1000 * v:.0f}" for v in found)


def unpack_values(packed: str) -> NDArray[np.float64]:
    """Return packed values; NaN where there was none.

    Examples:
        >>> unpack_values("- 500").tolist()
        [nan, 0.5]
    """
    return np.array([np.nan if v == _MISSING else int(v) / 1000 for v in packed.split()])
