"""Runs `python -m monai.bundle run ...` up to the end of the first training step, by parts.

A part's time is its own: what is imported while the configuration is resolved counts as import.
Only the standard library is imported here before the clock runs.
"""

from __future__ import annotations

import functools
import importlib.machinery
import json
import os
import runpy
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

CONFIGURATION = "configuration"
# Once the module is imported, calls of these belong to the part.
HOOKS = {
    "ignite.engine.engine": [("Engine.run", "handlers, first batch")],
    "monai.data.dataset": [("CacheDataset._fill_cache", "data read and cached")],
    "monai.engines.trainer": [("SupervisedTrainer._iteration", "first step")],
    "ppi_med.tracking": [("create_tracker", "tracking")],
    "ppi_med.tracking.run": [("RunTracker.start", "tracking"), ("RunTracker.__init__", "tracking")],
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LAST = "SupervisedTrainer._iteration"


class Clock:
    """Gives every moment of the main thread to the innermost part that has been entered.

    Args:
        first: the part that is entered when the clock starts.
        now: returns seconds.
    """

    def __init__(self, first: str, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._now = now
        self._entered = [first]
        self._since = now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Enter a part; other threads run beside the clock and change nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.note()
        self._entered.append(name)
        try:
            yield
        finally:
            self.note()
            self._entered.pop()

    def note(self) -> None:
        """Credit the time since the last note."""
        now = self._now()
        self.seconds[self._entered[-1]] += now - self._since
        self._since = now


def package_part(module: str) -> str:
    """Return the part that the import of a module belongs to.

    >>> package_part("torch.nn"), package_part("json.decoder"), package_part("__main__")
    ('import torch', 'import standard library', 'configuration')
    """
    package = module.partition(".")[0]
    if package == "__main__":
        return CONFIGURATION
    own = package in sys.stdlib_module_names
    return "import standard library" if own else f"import {package}"


def clock_imports(clock: Clock, after: Callable[[ModuleType], None]) -> None:
    """Let the clock see every import from a file; `after` is called with each new module."""
    source: Any = importlib.machinery.SourceFileLoader
    extension: Any = importlib.machinery.ExtensionFileLoader
    run_source = source.exec_module

    def exec_source(loader: Any, module: ModuleType) -> None:
        with clock.part(package_part(module.__name__)):
            run_source(loader, module)
        after(module)

    source.exec_module = exec_source
    for name in ("create_module", "exec_module"):
        setattr(extension, name, _clocked_extension(clock, getattr(extension, name)))


def _clocked_extension(clock: Clock, original: Callable[..., Any]) -> Callable[..., Any]:
    def clocked(loader: Any, argument: Any) -> Any:
        spec = getattr(argument, "__spec__", argument)  # given a module or its spec
        with clock.part(package_part(spec.name)):
            return original(loader, argument)

    return clocked


def clock_calls(module: ModuleType, path: str, part: str, clock: Clock, done: Any) -> None:
    """Replace a function or method of a module by one that the clock sees."""
    owner: Any = module
    *above, name = path.split(".")
    for step in above:
        owner = getattr(owner, step)
    original = getattr(owner, name)

    @functools.wraps(original)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        with clock.part(part):
            result = original(*args, **kwargs)
        if path == LAST:
            done()
        return result

    setattr(owner, name, clocked)


def main(kind: str, report: str, arguments: list[str]) -> None:
    """Run the bundle; after the first step write the report and leave at once."""
    begun = {"started": time.time(), "cpu": time.process_time()}
    clock = Clock(CONFIGURATION, CLOCKS[kind])

    def done() -> None:
        clock.note()
        content = {**begun, "seconds": dict(clock.seconds)}
        Path(report).write_text(json.dumps(content))
        sys.stdout.flush()
        # Not sys.exit: handlers would see an exception and say so.
        os._exit(0)

    def after(module: ModuleType) -> None:
        for path, part in HOOKS.get(module.__name__, []):
            clock_calls(module, path, part, clock, done)

    clock_imports(clock, after)
    sys.argv = ["monai.bundle", *arguments]
    sys.path[0] = os.getcwd()  # as `python -m` has it
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
