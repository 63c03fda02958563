"""What a tracker can be asked, and the one that does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """A run that is recorded. This base records nothing.

    Attributes:
        run_id: id of the open run; None where there is none, or not yet.
    """

    run_id: str | None = None

    @property
    def active(self) -> bool:
        """Whether anything is recorded: ask before preparing something costly."""
        return False

    def start(self) -> None:
        """Open the run, or enter it again; further calls do nothing."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics of a step, in one request."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record parameters."""

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; None is left out."""

    def log_artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Record a file, or a folder with all in it, under a folder of the run."""

    def log_dataset(
        self,
        name: str,
        rows: Iterable[Mapping[str, Any]],
        context: str,
        source: str | os.PathLike[str] = "",
    ) -> None:
        """Record what a part of the data consists of."""

    def log_predictions(self, text: str) -> None:
        """Record what was predicted for each held-out case, see `Predictions.to_json`."""

    def log_model(self, network: Any, example: Any, **options: Any) -> str | None:
        """Record the network in MLflow's own format; return its URI."""
        return None

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run with this status; further calls do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return what names the run, for a checkpoint."""
        return {"run_id": self.run_id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the checkpoint's run the one to enter."""


class NullTracker(Tracker):
    """Records nothing and imports nothing: tracking switched off, or another process's part.

    Examples:
        >>> tracker = NullTracker()
        >>> tracker.log_metrics({"val/auc": 0.9}, step=1)
        >>> tracker.active
        False
    """
