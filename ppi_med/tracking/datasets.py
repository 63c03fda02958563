"""What a part of the data consists of, as MLflow's own data sets describe it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.tracking.environment import import_mlflow

PREDICTIONS = "predictions"
"""Context of the data set that holds a run's predictions on held-out cases."""
_NAME = "test_predictions"
# The most that MLflow takes of a profile.
_LONGEST = 16_000_000


def described_predictions(text: str) -> dict[str, Any]:
    """Return predictions as MLflow's description of a data set.

    MLflow describes a data set by a profile, a JSON text in its database: tables can be made of it
    without artifacts.

    Raises:
        UsageError: where the text is too long for one record.
    """
    if len(text) > _LONGEST:
        raise UsageError(
            f"The predictions are too many for a run's record ({len(text)} characters, at most "
            f"{_LONGEST}): test on fewer cases."
        )
    return {
        "name": _NAME,
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "source_type": "code",
        "source": json.dumps({"tags": {"mlflow.source.name": _NAME}}),
        "schema": None,
        "profile": text,
    }


def describe(name: str, rows: Iterable[Mapping[str, Any]], source: str = "") -> dict[str, Any]:
    """Return MLflow's description of a table: columns, number of rows and a digest of them.

    The rows themselves are not kept.

    Args:
        name: of the data set.
        rows: one a case; the columns are the keys of all rows.
        source: where they come from.

    Raises:
        ValueError: where there are no rows.
    """
    import pandas

    import_mlflow()
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.pandas_dataset import PandasDataset

    table = pandas.DataFrame([dict(row) for row in rows])
    if table.empty:
        raise ValueError(f"The data set {name!r} has no rows, expected one for each case.")
    with warnings.catch_warnings():
        # It hints at missing values in whole numbers, of which a label has none.
        warnings.simplefilter("ignore")
        found: dict[str, Any] = PandasDataset(
            table, CodeDatasetSource({"mlflow.source.name": source}), name=name
        ).to_dict()
    return found
