"""One function for many items: in this process, on threads, on processes, or on a Dask cluster.

`run_tasks` yields results in the items' order, for data. `run_jobs` yields outcomes as they end,
exceptions included, for trainings. Both run only a few items ahead, so that neither items nor
results pile up. Both name the item that killed its worker, and leave no worker behind when the
caller ends or dies.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from queue import SimpleQueue
from typing import Any, TypeVar

from ppi_med.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
Found = Iterator[tuple[int, Any, Any]]
"""Number of an item, the item, and its result, or `LOST`."""

SCHEDULERS = ("serial", "threads", "processes")
LOCAL = "local"
"""In the place of a Dask scheduler's address: a cluster of processes on this machine."""

ATTEMPTS = 3
"""How often a job may lose its worker; see `run_jobs`."""

LOST: Any = object()
_AHEAD = 4
"""Items under way for each worker."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        index: index of the job.
        result: result of the function; None where it failed.
        reason: why it failed; "" where it did not.
    """

    index: int
    result: Any = None
    reason: str = ""


def run_tasks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    scheduler: str = "processes",
    workers: int | None = None,
    on_death: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the items' order.

    Ctrl-C is left to the caller: a worker finishes its current item.

    Args:
        function: function of a module's top level, where it goes to other processes.
        items: the items; they are taken one by one, a few ahead of the results.
        scheduler: "serial", "threads", "processes", or the address of a Dask scheduler such as
            `tcp://10.0.0.1:8786`.
        workers: threads or processes; default one per core; a single one runs in this process. A
            Dask cluster has its own.
        on_death: what to yield for an item whose process died (short of memory, a crash in a
            decoder); without it such a death ends the run.

    Raises:
        ValueError: for an unknown scheduler or a number of workers below 1.
        ImportError: for a Dask address without dask.
        BrokenProcessPool: for a process that died, without `on_death`.

    Examples:
        >>> list(run_tasks(abs, [-1, 2, -3], scheduler="threads", workers=2))
        [1, 2, 3]
    """
    check_scheduler(scheduler, workers)
    count = workers or os.cpu_count() or 1
    if scheduler == "serial" or (count == 1 and scheduler in SCHEDULERS):
        yield from map(function, items)
        return
    if ":" in scheduler:
        found = _on_dask(function, items, scheduler, count, in_order=True)
    elif scheduler == "threads":
        found = _on_threads(function, items, count)
    else:
        found = _on_processes(function, items, _Workers(count), attempts=1, in_order=True)
    for _, item, result in found:
        if result is LOST and on_death is None:
            raise BrokenProcessPool("a worker process died with its item")
        yield on_death(item) if result is LOST and on_death is not None else result


def check_scheduler(scheduler: str, workers: int | None = None) -> None:
    """Raise the errors of `run_tasks` before anything is read.

    Raises:
        ValueError: for an unknown scheduler or a number of workers below 1.
    """
    if scheduler not in SCHEDULERS and ":" not in scheduler:
        raise UsageError(
            f"scheduler is {scheduler!r}, expected one of {', '.join(SCHEDULERS)}, or the address "
            "of a Dask scheduler such as tcp://10.0.0.1:8786."
        )
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}, expected a number of at least 1.")


def run_jobs(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    *,
    workers: int = 0,
    dask: str | None = None,
    attempts: int = ATTEMPTS,
) -> Iterator[Outcome]:
    """Yield an outcome for each job, as they end.

    A job that raises has failed and is not tried again. A job whose worker was lost (killed, out of
    memory, machine gone) goes to another worker. If this process is stopped, busy workers are
    stopped too, by SIGTERM, so that they can close what is open.

    Args:
        function: function of a module's top level, as it goes to other processes.
        jobs: the arguments, one per call.
        workers: processes on this machine, each with one thread where there are several; 0: here.
        dask: address of a scheduler, or `local`; None: no Dask.
        attempts: how often workers may be lost without any job ending in between; at the last
            attempt jobs run alone, so that the one that kills its worker is found.

    Raises:
        UsageError: for a negative number of workers, without Dask, or without its scheduler.

    Examples:
        >>> [one.result for one in run_jobs(abs, [-1, 2])]
        [1, 2]
    """
    if workers < 0:
        raise UsageError(f"workers is {workers}, expected at least 1, or 0 for this process.")
    attempt = partial(_attempt, function)
    if dask:
        found = _on_dask(attempt, jobs, dask, max(workers, 1), in_order=False)
    elif workers:
        how = _Workers(workers, training=True)
        found = _on_processes(attempt, jobs, how, attempts=attempts, in_order=False)
    else:
        found = ((index, job, attempt(job)) for index, job in enumerate(jobs))
    for index, _, outcome in found:
        if outcome is LOST:
            times = f"{attempts} times " if attempts > 1 and not dask else ""
            reason = f"its worker process was lost {times}(killed, or out of memory?)"
            yield Outcome(index, None, reason)
        else:
            yield Outcome(index, *outcome)


def _attempt(function: Callable[[Any], Any], job: Any) -> tuple[Any, str]:
    """Return result and reason of one job; an exception is a reason."""
    try:
        return function(job), ""
    except Exception:
        return None, traceback.format_exc(limit=-4)


def _window(
    submit: Callable[[Any], Any],
    items: Iterator[tuple[int, Any]],
    under_way: dict[int, Any],
    size: int,
    in_order: bool,
) -> Found:
    """Keep `size` items running; yield number, item and result, in order or as they end.

    `submit` returns a future; what is under way at the beginning is started again.
    """
    futures: dict[int, Any] = {}
    ended: SimpleQueue[int] = SimpleQueue()

    def start(index: int, item: Any) -> None:
        # Recorded first: a pool that breaks at the submit must not lose it.
        under_way[index] = item
        futures[index] = future = submit(item)
        future.add_done_callback(lambda _: ended.put(index))

    try:
        for index, item in sorted(under_way.items()):
            start(index, item)
        while True:
            while len(under_way) < size and (pair := next(items, None)) is not None:
                start(*pair)
            if not under_way:
                return
            index = next(iter(futures)) if in_order else ended.get()
            result = futures.pop(index).result()
            yield index, under_way.pop(index), result
    except BrokenProcessPool:
        # Ended items are not run again; in order their turn may come later.
        for index, future in futures.items():
            if not in_order and future.done() and future.exception() is None:
                yield index, under_way.pop(index), future.result()
        raise


def _submitter(pool: Executor, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda item: pool.submit(function, item)


def _on_threads(function: Callable[[Any], Any], items: Iterable[Any], count: int) -> Found:
    pool = ThreadPoolExecutor(count)
    try:
        submit = _submitter(pool, function)
        yield from _window(submit, enumerate(items), {}, count * _AHEAD, in_order=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Workers:
    """Processes: how many, and whether they train (one thread each, stopped when we are)."""

    count: int
    training: bool = False

    @contextmanager
    def pool(self, count: int) -> Iterator[ProcessPoolExecutor]:
        """Give fresh processes, and leave none behind."""
        if self.training:
            keep_freed_memory()
        # Not a fork: it would copy the threads of this process in an unknown state, and may hang.
        pool = ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare,
            initargs=(self.training, self.training and self.count > 1),
        )
        try:
            yield pool
        except BrokenProcessPool:
            # The remaining workers may not end by themselves: a training turns the executor's
            # signal into an exception. Their items are run again.
            _kill(pool)
            raise
        except BaseException:
            if self.training:
                _stop(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _on_processes(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    how: _Workers,
    *,
    attempts: int,
    in_order: bool,
) -> Found:
    source = enumerate(items)
    under_way: dict[int, Any] = {}
    lost = 0
    while True:
        ended = 0
        try:
            with how.pool(how.count) as pool:
                submit = _submitter(pool, function)
                size = how.count * _AHEAD
                for one in _window(submit, source, under_way, size, in_order):
                    ended += 1
                    yield one
            return
        except BrokenProcessPool:
            lost = 0 if ended else lost + 1
            logger.warning("a worker process was lost: %d items go to new ones", len(under_way))
        if attempts == 1 or lost >= attempts - 1:
            yield from _up_to_the_culprit(function, under_way, how)
            lost = 0


def _up_to_the_culprit(
    function: Callable[[Any], Any], under_way: dict[int, Any], how: _Workers
) -> Found:
    """Run items alone, until the one that kills the workers is found."""
    for index in sorted(under_way):
        item = under_way.pop(index)
        try:
            with how.pool(1) as pool:
                result = pool.submit(function, item).result()
        except BrokenProcessPool:
            yield index, item, LOST
            return
        yield index, item, result


def _on_dask(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    address: str,
    workers: int,
    *,
    in_order: bool,
) -> Found:
    try:
        import distributed
    except ImportError as error:
        raise ImportError("A Dask address needs dask: pip install 'ppi_med[scale]'.") from error
    with _client(distributed, address, workers) as client:

        def submit(item: Any) -> Any:
            return _DaskFuture(client.submit(function, item, pure=False), distributed.KilledWorker)

        size = (sum(client.nthreads().values()) or 1) * _AHEAD
        yield from _window(submit, enumerate(items), {}, size, in_order)


@dataclass(frozen=True)
class _DaskFuture:
    """A future whose result is `LOST` if its item killed one worker after the other."""

    future: Any
    killed: type[Exception]

    def add_done_callback(self, function: Callable[[Any], None]) -> None:
        self.future.add_done_callback(function)

    def result(self) -> Any:
        try:
            return self.future.result()
        except self.killed:
            return LOST


def _client(distributed: Any, address: str, workers: int) -> Any:
    if address == LOCAL:
        # One thread a worker: a training sets random states that all threads of a process share.
        return distributed.Client(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            set_as_default=False,
        )
    try:
        return distributed.Client(address, timeout="30s", set_as_default=False)
    except OSError as error:
        raise UsageError(
            f"There is no Dask scheduler at {address}: start one with `dask scheduler`."
        ) from error


def keep_freed_memory() -> None:
    """Let the allocator of new processes keep freed memory: a third of a step on a CPU."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(2**32))


def _processes(pool: ProcessPoolExecutor) -> list[Any]:
    return list((getattr(pool, "_processes", None) or {}).values())


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in _processes(pool):
        process.kill()


def _stop(pool: ProcessPoolExecutor, seconds: float = 20.0) -> None:
    """Ask the workers to end, and kill those that do not."""
    processes = _processes(pool)
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
    limit = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, limit - time.monotonic()))
        process.kill()


def _prepare(training: bool, one_thread: bool) -> None:
    """Make a worker process that ends when its parent is gone."""
    if not training:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if one_thread:
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch

        torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Nothing reads the result any more, and another run may begin the same item.
        os.kill(os.getpid(), signal.SIGKILL)
