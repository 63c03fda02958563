"""Runs on the MLflow API: opened, written, continued and closed by this package.

A bundle names `create_tracker`; MLflow is not imported before a run is opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ppi_med.tracking.base import NullTracker, Tracker

__all__ = ["NullTracker", "Tracker", "create_tracker"]


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
        tracking: None or "none": record nothing (MONAI's command line cannot pass null, so a bundle
            gets `--KEY none`). "default": `MLFLOW_TRACKING_URI` if it is set, else SQLite in
            `root`. Anything else: a tracking URI.
        directory: this run's own folder; it keeps the run's id, records that wait for the server,
            and the resolved configuration.
        root: folder of the database and artifacts, shared by runs to compare; default the parent of
            `directory`.
        experiment: name of the experiment.
        run_name: default made of the experiment and the time; a name in use gets a number.
        tags: see `ppi_med.naming.TAGS`; None is left out, git_commit is added.
        params: further parameters.
        config: the configuration to record: a mapping or a file. Default: that of the MONAI bundle
            that is running, with its references resolved.
        system_metrics: record the load of processor, memory, disk and GPU.
        resume: continue the run of `directory` if there is one; False: begin another.

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
        tracking,
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
