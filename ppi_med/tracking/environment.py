"""Settings that MLflow reads from the environment, made before it is used."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DEFAULTS = {
    # Read at import; MONAI may have imported MLflow already, see below.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # A server that is away must not stop an epoch for minutes: we keep records and try again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # A run is read from a terminal or a log file, where links of a hosted service help nobody.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def import_mlflow() -> Any:
    """Return `mlflow`, without telemetry and with short time-outs; what the user has set stays.

    Raises:
        ImportError: if it is not installed, saying what to do.
    """
    early = "mlflow" in sys.modules
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        import mlflow.tracking
    except ImportError as error:
        raise ImportError(
            "Tracking needs mlflow, which cannot be imported: install it, or switch tracking off "
            "with null."
        ) from error
    if early:
        from mlflow.telemetry import set_telemetry_client

        # Looks at the environment again, and drops the client that the import made.
        set_telemetry_client()
    return mlflow


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let loggers of these names say only errors inside the block.

    MLflow tells of each of the sixty migrations that make a new database.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
