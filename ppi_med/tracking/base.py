"""What a tracker can be asked, and the one that does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal


def create_tracker(
    tracking: str | None = "default",
    *,
    directory: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    experiment: str = "ppi_med",
    run_name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    system_metrics: bool = True,
    resume: bool = True,
) -> Tracker:
    """Return the tracker of a run, or one that does nothing.

    Args:
        tracking: None or "none": record nothing (MONAI's command line passes no null on, so a
            bundle is told ``--KEY none``). "default": ``MLFLOW_TRACKING_URI`` where it is set, else
            SQLite in `root`. Anything else: a tracking URI.
        directory: this run's own folder: which run it is, records that wait for the server, and
            the resolved configuration are kept there.
        root: folder of the database and artifacts, shared by runs that are to be compared;
            default the parent of `directory`.
        experiment: name of the experiment.
        run_name: default made of the experiment and the time; a name that is taken gets a number.
        tags: see ``ppi_med.naming.TAGS``; None is left out, git_commit is added.
        params: further parameters.
        config: the configuration to record: a mapping or a file. Default: that of the MONAI bundle
            that is running, with its references resolved.
        system_metrics: record the load of processor, memory, disk and GPU.
        resume: enter the run of `directory` again where there is one; False: begin another.

    Returns:
        A tracker; one that does nothing on all processes but the first.

    Examples:
        >>> type(create_tracker(None, directory="runs/a")).__name__
        'NullTracker'
    """
    if tracking is None or tracking == "none":
        return NullTracker()
    from ppi_med.distributed import started_rank

    if started_rank() > 0:
        return NullTracker()
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.run import RunTracker

    location = locate(
        root if root is not None else os.path.dirname(os.path.abspath(directory)),
        None if tracking == "default" else tracking,
    )
    return RunTracker(
        location,
        directory,
        experiment=experiment,
        run_name=run_name,
        tags=tags,
        params=params,
        config=config,
        system_metrics=system_metrics,
        resume=resume,
    )


Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """A run that is recorded. This base records nothing.

    Attributes:
        run_id: of the open run; None where there is none, or not yet.
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
