"""The machine's load, sampled in the background and sent with the next metrics."""

from __future__ import annotations

import threading
import time
from typing import Any

Item = list[Any]


class SystemMetrics:
    """Samples MLflow's monitors of processor, memory, disk, network and GPU.

    MLflow's own monitor writes from its thread and stops at the first error of the server; here
    samples wait in memory until `take`.

    Args:
        started: milliseconds at which the run began; the step of a sample is the seconds since.
        interval: seconds between samples.
    """

    def __init__(self, started: int, interval: float = 10.0) -> None:
        self.started = started
        self.interval = interval
        self._items: list[Item] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._monitors = _monitors()
        self._thread = threading.Thread(target=self._watch, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def take(self) -> list[Item]:
        """Return the samples since the last call, as a record's items."""
        with self._lock:
            items, self._items = self._items, []
        return items

    def stop(self) -> None:
        """Take a last sample and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._sample()

    def _watch(self) -> None:
        self._sample()
        while not self._stop.wait(self.interval):
            self._sample()

    def _sample(self) -> None:
        now = int(time.time() * 1000)
        step = max(0, (now - self.started) // 1000)
        found = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found.update(monitor.aggregate_metrics())
            monitor.clear_metrics()
        items = [[f"system/{name}", float(value), now, step] for name, value in found.items()]
        with self._lock:
            self._items.extend(items)


def _monitors() -> list[Any]:
    from mlflow.exceptions import MlflowException
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        found.append(GPUMonitor())
    except (ImportError, MlflowException, RuntimeError):
        # No GPU, or not the package that reads it: the other monitors continue.
        return found
    return found
