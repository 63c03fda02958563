"""The peak memory of a process, without importing anything large."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def own_peak_mib() -> float:
    """Return the peak of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux the resource usage of a new process starts at its parent's peak; this does not.
        (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2
