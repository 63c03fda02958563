"""Predictions kept in a run's record itself, so that tables need the database alone.

MLflow describes a data set by a profile, a JSON text in its database. The predictions on the
held-out cases are recorded as such: a data set of the run, with its own context.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.evaluation.predictions import COLUMNS, Predictions

CONTEXT = "predictions"
NAME = "test_predictions"
_FORMAT = 1
# The most that MLflow takes of a profile.
_LONGEST = 16_000_000


def as_dataset(predictions: Predictions) -> dict[str, Any]:
    """Return predictions as MLflow's description of a data set.

    Scores are kept to seven digits, which float32 has.

    Raises:
        UsageError: where there are too many for one record.

    Examples:
        >>> row = {"volume_id": "v", "subject": "s", "site": "a", "label": 1, "score": 0.5}
        >>> from_dataset(as_dataset(Predictions.from_rows([row]))["profile"]).score.tolist()
        [0.5]
    """
    columns: dict[str, list[Any]] = {name: getattr(predictions, name).tolist() for name in COLUMNS}
    columns["score"] = [float(f"{score:.7g}") for score in columns["score"]]
    content = {"num_rows": len(predictions), "format": _FORMAT, **columns}
    profile = json.dumps(content, separators=(",", ":"))
    if len(profile) > _LONGEST:
        raise UsageError(
            f"{len(predictions)} predictions are too many for a run's record: test on fewer cases."
        )
    return {
        "name": NAME,
        "digest": hashlib.sha256(profile.encode()).hexdigest()[:16],
        "source_type": "code",
        "source": json.dumps({"tags": {"mlflow.source.name": NAME}}),
        "schema": None,
        "profile": profile,
    }


def from_dataset(profile: str) -> Predictions:
    """Return the predictions of a profile that :func:`as_dataset` made.

    Raises:
        UsageError: where it is no such profile.
    """
    content: Mapping[str, Any] = json.loads(profile)
    if content.get("format") != _FORMAT:
        raise UsageError(
            f"Predictions are recorded in format {content.get('format')!r}, expected {_FORMAT}."
        )
    columns = [content[name] for name in COLUMNS]
    rows = (dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True))
    return Predictions.from_rows(rows)
