"""Runs on the MLflow API: opened, fed, continued and closed by us.

``create_tracker`` is what a bundle names; nothing of MLflow is imported before a run is opened.
"""

from ppi_med.tracking.base import NullTracker, Tracker, create_tracker

__all__ = ["NullTracker", "Tracker", "create_tracker"]
