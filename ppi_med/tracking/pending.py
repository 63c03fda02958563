"""Sending what waited for a server, when the run that made it is over."""

from __future__ import annotations

import os
from pathlib import Path

from ppi_med.tracking.location import Location
from ppi_med.tracking.run import PENDING_FILE, RunTracker, read_run_file


def send_pending(directory: str | os.PathLike[str], location: Location) -> int:
    """Send the records that wait in a run's folder.

    Args:
        directory: the run's folder.
        location: where runs are kept, from :func:`ppi_med.tracking.location.locate`.

    Returns:
        How many were sent.

    Raises:
        ConnectionError: where the store is still away.
    """
    folder = Path(directory)
    if not (folder / PENDING_FILE).exists():
        return 0
    known = read_run_file(folder)
    tracker = RunTracker(
        location,
        folder,
        experiment=known.get("experiment", "ppi_med"),
        run_name=known.get("run_name"),
    )
    waiting = len(tracker.outbox.journal)
    if not tracker.outbox.flush():
        raise ConnectionError(
            f"{location.uri} cannot be reached: {waiting} records still wait in {folder}; "
            "try again when it can."
        )
    return waiting
