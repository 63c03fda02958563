"""What all tests share: offline settings, the real data's folder, reasons to skip."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

# Read at import by the libraries, so set before any of them is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MPLBACKEND", "Agg")

from ppi_med.networks.torchvision_shim import ensure_torchvision  # noqa: E402

ensure_torchvision()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data (read only); tests that use it carry the marker `data`."""
    folder = os.environ.get("PPI_MED_DATA")
    if not folder:
        pytest.skip("real data: PPI_MED_DATA is not set")
    root = Path(folder)
    if not root.is_dir():
        pytest.fail(f"PPI_MED_DATA names {root}, which is not a folder: correct or unset it.")
    return root


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """No test, and no fixture of a module, finds the address of a store that is not its own."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, what this machine cannot run; put the slowest files first.

    Processes share the files out in this order, so that none is left alone with a long one.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: ("notebooks" not in item.path.parts, item.path not in long))
    for item in items:
        for marker, reason in _missing().items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests have measured; write the fifteen slowest where PPI_MED_SLOWEST says."""
    reports = [one for found in terminalreporter.stats.values() for one in found]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "measured" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid}: {value}")
    target = os.environ.get("PPI_MED_SLOWEST")
    if not target:
        return
    seconds: dict[str, float] = {}
    for report in reports:
        if hasattr(report, "duration") and hasattr(report, "nodeid"):
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:15]
    lines = [f"{seconds[name]:8.1f} s  {name}" for name in slowest]
    lines += [f"{sum(seconds.values()):8.1f} s  all {len(seconds)} tests"]
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _missing() -> dict[str, str]:
    import torch

    missing = {}
    if not os.environ.get("PPI_MED_DATA"):
        missing["data"] = "real data: PPI_MED_DATA is not set"
    if not torch.cuda.is_available():
        missing["gpu"] = "no CUDA device"
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        missing["browser"] = "no Chromium on the path"
    return missing
