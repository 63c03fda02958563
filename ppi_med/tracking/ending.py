"""No run is left "running" when the process is stopped or ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ppi_med.tracking.base import Status


class EndingWatch:
    """Closes a run when the process ends before the run is closed.

    SIGTERM becomes a `SystemExit` in the main thread, so that `finally` blocks and handlers run.
    A run that is open when the process exits has FAILED: only a completed one is finished.

    Args:
        finish: function that closes the run, if it is open.
    """

    def __init__(self, finish: Callable[[Status], None]) -> None:
        self.finish = finish
        self.terminated = False
        self._process = os.getpid()
        self._before: Any = None
        self._installed = False

    def install(self) -> None:
        """Begin to watch. The signal is only caught in the main thread."""
        atexit.register(self._at_exit)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def remove(self) -> None:
        """Stop watching and restore the signal's former handler."""
        atexit.unregister(self._at_exit)
        ours = self._installed and signal.getsignal(signal.SIGTERM) == self._on_signal
        if ours and threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL
            )
        self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A forked worker inherits this; for it the signal keeps its usual meaning.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.terminated = True
        raise SystemExit(128 + number)

    def _at_exit(self) -> None:
        if os.getpid() != self._process:
            return
        wanted = self.terminated or isinstance(_last_error(), KeyboardInterrupt)
        self.finish("KILLED" if wanted else "FAILED")


def status_of(error: BaseException) -> Status:
    """Return the status of a run that this error ended: KILLED if it was stopped on purpose."""
    return "KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED"


def _last_error() -> BaseException | None:
    """Return the error that the interpreter has printed, which ended the process."""
    return getattr(sys, "last_value", None)
