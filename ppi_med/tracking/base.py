"""The interface of a tracker, and a tracker that does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """A run that is recorded. This base records nothing.

    Attributes:
        run_id: id of the open run; None without one, or before it is known.
    """

    run_id: str | None = None

    @property
    def active(self) -> bool:
        """Whether anything is recorded: check it before preparing something costly."""
        return False

    def start(self) -> None:
        """Open or continue the run; further calls do nothing."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics of a step, in one request."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; None is left out."""

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file or a whole folder, under a folder of the run."""

    def log_dataset(
        self,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        context: str,
        source: str | os.PathLike[str] = "",
    ) -> None:
        """Record the cases of a part of the data."""

    def log_predictions(self, text: str) -> None:
        """Record the prediction for each held-out case, see `Predictions.to_json`."""

    def log_model(self, network: Any, example: Any, **options: Any) -> str | None:
        """Record the network in MLflow's own format; return its URI."""
        return None

    def describe(self, result: str) -> None:
        """Record the run's description, with its result as a sentence."""

    def where(self) -> str:
        """Return how to open the runs, in one line; "" where nothing is recorded."""
        return ""

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run with this status; further calls do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return the run's identity, for a checkpoint."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the checkpoint's run as the one to continue."""


class NullTracker(Tracker):
    """Records nothing and imports nothing: for tracking switched off, and for further processes.

    Examples:
        >>> tracker = NullTracker()
        >>> tracker.log_metrics({"val/auc": 0.9}, step=1)
        >>> tracker.active
        False
    """
