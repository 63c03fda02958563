"""Sending waiting records after their run has ended."""

from __future__ import annotations

import os
from pathlib import Path

from ppi_med.errors import UnreachableError
from ppi_med.tracking.location import Location
from ppi_med.tracking.run import ASIDE, PENDING_FILE, read_run_file, tracker_of


def send_pending(directory: str | os.PathLike[str], location: Location) -> int:
    """Send the waiting records in a run's folder, also those of earlier runs.

    Args:
        directory: the run's folder.
        location: where runs are kept, from `ppi_med.tracking.location.locate`.

    Returns:
        How many were sent.

    Raises:
        UnreachableError: if the store still cannot be reached.
    """
    folder = Path(directory)
    earlier = [
        one
        for one in sorted(folder.glob(f"{ASIDE}*"))
        if read_run_file(one).get("tracking_uri") == location.uri
    ]
    return sum(_send(one, location) for one in (*earlier, folder) if (one / PENDING_FILE).exists())


def _send(folder: Path, location: Location) -> int:
    tracker = tracker_of(folder, location)
    waiting = len(tracker.outbox.journal)
    if not tracker.outbox.flush():
        raise UnreachableError(
            f"{location.uri} cannot be reached: {waiting} records still wait in {folder}; "
            "try again when it can."
        )
    return waiting
