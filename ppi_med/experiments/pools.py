"""Where jobs are computed: in this process, in worker processes, or on a Dask cluster.

A job that raises has failed and is not tried again; a job whose worker was lost (killed, out of
memory, machine gone) is given to another.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from ppi_med.errors import UsageError

logger = logging.getLogger(__name__)

Function = Callable[[Any], Any]
LOCAL = "local"
ATTEMPTS = 3
"""Times that a job may lose its worker."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        index: of the job.
        result: of the function; None where it failed.
        reason: why it failed; "" where it did not.
    """

    index: int
    result: Any = None
    reason: str = ""


class Pool(ABC):
    """Computes a function of each of many jobs."""

    @abstractmethod
    def run(self, function: Function, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Yield an outcome for each job, as they end; function and jobs are picklable."""


class HerePool(Pool):
    """One job after the other in this process.

    Example:
        >>> [one.result for one in HerePool().run(abs, [-1, 2])]
        [1, 2]
    """

    def run(self, function: Function, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Yield the outcomes in order."""
        for index, job in enumerate(jobs):
            yield attempt(function, index, job)


class ProcessPool(Pool):
    """Worker processes on this machine, each with one thread where there are several.

    Args:
        workers: how many.
        attempts: times that workers may be lost without any job having ended between; for the last
            of them jobs are run alone, so that the one that does it is found.
    """

    def __init__(self, workers: int, attempts: int = ATTEMPTS) -> None:
        if workers < 1:
            raise UsageError(f"workers is {workers}, expected at least 1.")
        self.workers = workers
        self.attempts = attempts

    def run(self, function: Function, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Yield the outcomes as they come."""
        left = dict(enumerate(jobs))
        lost = 0
        while left:
            ended = 0
            for outcome in self._round(function, dict(left)):
                del left[outcome.index]
                ended += 1
                yield outcome
            if not left:
                return
            lost = 0 if ended else lost + 1
            logger.warning("a worker process was lost: %d jobs are given to new ones", len(left))
            if lost >= max(1, self.attempts - 1):
                yield from self._up_to_the_culprit(function, left, lost + 1)
                lost = 0

    def _up_to_the_culprit(
        self, function: Function, left: dict[int, Any], times: int
    ) -> Iterator[Outcome]:
        """Run jobs alone, until the one is found that takes its worker, and the others', along."""
        for index in list(left):
            alone = list(self._round(function, {index: left.pop(index)}))
            if not alone:
                reason = f"its worker process was lost {times} times (killed, or out of memory?)"
                yield Outcome(index, None, reason)
                return
            yield from alone

    def _round(self, function: Function, jobs: dict[int, Any]) -> Iterator[Outcome]:
        """Yield the outcomes until all have ended or a worker is lost."""
        _keep_freed_memory()
        # Fresh processes: a fork of one that has used torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_prepare, initargs=(self.workers > 1,)
        )
        processes: dict[int, Any] = {}
        try:
            waiting = {pool.submit(attempt, function, i, job): i for i, job in jobs.items()}
            processes = getattr(pool, "_processes", None) or {}
            for future in as_completed(waiting):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    # The executor waits for those that are left to end, and they may not: a run
                    # turns the signal into an exception. Their cells are run again.
                    _kill(processes)
        except BaseException:
            # Stopped from outside: those that compute are stopped too, and close their runs.
            for process in list(processes.values()):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            _end_of(processes)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class DaskPool(Pool):
    """The workers of a Dask cluster; one job at a time in each.

    A worker that is lost is replaced by the cluster, and its job is given to another.

    Args:
        address: of the scheduler, such as ``tcp://host:8786``, or ``local`` for a cluster of
            processes on this machine.
        workers: of a local cluster.

    Raises:
        UsageError: where Dask is not installed.
    """

    def __init__(self, address: str = LOCAL, workers: int = 1) -> None:
        self.address = address
        self.workers = workers

    def run(self, function: Function, jobs: Sequence[Any]) -> Iterator[Outcome]:
        """Yield the outcomes as they come."""
        try:
            import distributed
        except ImportError as error:
            raise UsageError(
                "A Dask cluster needs the packages dask and distributed: pip install "
                "ppi_med[scale]."
            ) from error
        _keep_freed_memory()
        with self._client(distributed) as client:
            waiting = {
                # A killed worker is counted against the job; a job that kills them all must end.
                client.submit(attempt, function, index, job, pure=False): index
                for index, job in enumerate(jobs)
            }
            ended: Any = distributed.as_completed
            for future in ended(waiting):
                try:
                    yield future.result()
                except Exception as error:
                    reason = f"its worker was lost: {type(error).__name__}: {error}"
                    yield Outcome(waiting[future], None, reason)

    def _client(self, distributed: Any) -> Any:
        if self.address != LOCAL:
            try:
                return distributed.Client(self.address, timeout="30s")
            except OSError as error:
                raise UsageError(
                    f"There is no Dask scheduler at {self.address}: start one with `dask "
                    f"scheduler`, or use --dask {LOCAL}."
                ) from error
        # One thread a worker: a training sets random states that all threads of a process share.
        return distributed.Client(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        )


def make_pool(workers: int, dask: str | None = None) -> Pool:
    """Return where to compute.

    Args:
        workers: processes on this machine; 0: in this one.
        dask: address of a scheduler, or ``local``; None: no Dask.

    Example:
        >>> type(make_pool(0)).__name__, type(make_pool(2)).__name__
        ('HerePool', 'ProcessPool')
    """
    if dask:
        return DaskPool(dask, max(workers, 1))
    return ProcessPool(workers) if workers else HerePool()


def attempt(function: Function, index: int, job: Any) -> Outcome:
    """Return what became of one job; an exception is an outcome too."""
    try:
        return Outcome(index, function(job))
    except Exception:
        return Outcome(index, None, traceback.format_exc(limit=-4))


def _kill(processes: dict[int, Any]) -> None:
    for process in list(processes.values()):
        process.kill()


def _end_of(processes: dict[int, Any], seconds: float = 20.0) -> None:
    """Wait for processes that were told to end; kill those that do not."""
    limit = time.monotonic() + seconds
    for process in list(processes.values()):
        process.join(max(0.0, limit - time.monotonic()))
    _kill(processes)


def _keep_freed_memory() -> None:
    """Let the workers' allocator keep what is freed: returning it costs a third of a CPU step."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(2**32))


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def _prepare(one_thread: bool) -> None:
    """Make a worker process that ends when the one that started it is gone."""
    if one_thread:
        _one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Nobody reads the result, and another sweep may begin the same job.
        os.kill(os.getpid(), signal.SIGKILL)
