"""Sending what waited for a server, when the run that made it is over."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

from ppi_med.errors import UnreachableError, UsageError
from ppi_med.io import write_json
from ppi_med.tracking.journal import Journal
from ppi_med.tracking.location import Location
from ppi_med.tracking.run import PENDING_FILE, RUN_FILE, RunTracker, read_run_file

logger = logging.getLogger(__name__)

# Folders in which records of earlier runs wait begin like this.
_ASIDE = "mlflow_pending-"


def send_pending(directory: str | os.PathLike[str], location: Location) -> int:
    """Send the records that wait in a run's folder, those of earlier runs in it too.

    Args:
        directory: the run's folder.
        location: where runs are kept, from :func:`ppi_med.tracking.location.locate`.

    Returns:
        How many were sent.

    Raises:
        UnreachableError: where the store is still away.
    """
    folder = Path(directory)
    earlier = [
        one
        for one in sorted(folder.glob(f"{_ASIDE}*"))
        if read_run_file(one).get("tracking_uri") == location.uri
    ]
    return sum(_send(one, location) for one in (*earlier, folder) if (one / PENDING_FILE).exists())


def part_with_earlier(directory: Path, location: Location) -> None:
    """Send what waits in a folder to the run that made it, or set it aside: another run begins.

    Args:
        directory: the folder of both runs.
        location: where the new run is kept.
    """
    known = read_run_file(directory)
    if known.get("tracking_uri") == location.uri:
        try:
            if _tracker_of(directory, location).outbox.flush():
                return
        except UsageError as error:
            logger.warning("The earlier run in %s cannot be opened: %s", directory, error)
    aside = directory / f"{_ASIDE}{known.get('run_id') or uuid.uuid4().hex}"
    aside.mkdir(exist_ok=True)
    write_json(aside / RUN_FILE, known)
    Journal(directory / PENDING_FILE).move(aside / PENDING_FILE)
    logger.warning(
        "The records of the earlier run wait in %s: ppi_med.tracking.pending.send_pending sends "
        "them when its tracking store is there.",
        aside,
    )


def _send(folder: Path, location: Location) -> int:
    tracker = _tracker_of(folder, location)
    waiting = len(tracker.outbox.journal)
    if not tracker.outbox.flush():
        raise UnreachableError(
            f"{location.uri} cannot be reached: {waiting} records still wait in {folder}; "
            "try again when it can."
        )
    return waiting


def _tracker_of(folder: Path, location: Location) -> RunTracker:
    """Return a tracker of the run that a folder belongs to."""
    known = read_run_file(folder)
    return RunTracker(
        location,
        folder,
        experiment=known.get("experiment", "ppi_med"),
        run_name=known.get("run_name"),
    )
