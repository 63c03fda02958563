"""Running a function over many items: here, on threads, on processes, or on a Dask cluster.

Results come in the items' order, and only a few items are under way at a time, so that neither
the items nor the results pile up in memory.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = ("serial", "threads", "processes")
_AHEAD = 4
"""Items under way for each worker."""


def run_tasks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    scheduler: str = "processes",
    workers: int | None = None,
    on_death: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the items' order.

    Args:
        function: of a module's top level, where it goes to other processes.
        items: taken one by one, a few ahead of the results.
        scheduler: "serial", "threads", "processes", or the address of a Dask scheduler such as
            `tcp://10.0.0.1:8786`.
        workers: threads or processes; default one a core; a single one runs in this process. A
            Dask cluster has its own.
        on_death: what to yield for an item whose process died (short of memory, a crash in a
            decoder); without it that ends the run.

    Raises:
        ValueError: for an unknown scheduler or a number of workers below 1.
        ImportError: for a Dask address without dask.

    Examples:
        >>> list(run_tasks(abs, [-1, 2, -3], scheduler="threads", workers=2))
        [1, 2, 3]
    """
    check_scheduler(scheduler, workers)
    count = workers or os.cpu_count() or 1
    if ":" in scheduler:
        yield from _on_dask(function, items, scheduler)
    elif scheduler == "serial" or count == 1:
        yield from map(function, items)
    elif scheduler == "threads":
        with ThreadPoolExecutor(count) as pool:
            yield from _window(pool.submit, function, items, count * _AHEAD)
    else:
        yield from _on_processes(function, items, count, on_death)


def check_scheduler(scheduler: str, workers: int | None = None) -> None:
    """Refuse what `run_tasks` would refuse, before anything is read.

    Raises:
        ValueError: for an unknown scheduler or a number of workers below 1.
    """
    if scheduler not in LOCAL and ":" not in scheduler:
        raise ValueError(
            f"scheduler is {scheduler!r}, expected one of {', '.join(LOCAL)}, or the address of a "
            "Dask scheduler such as tcp://10.0.0.1:8786."
        )
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, expected a number of at least 1.")


def _window(
    submit: Callable[..., Any],
    function: Callable[[Item], Result],
    items: Iterable[Item],
    size: int,
) -> Iterator[Result]:
    """Keep `size` items under way; yield their results in order."""
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(submit(function, item))
            if len(waiting) >= size:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _on_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
    on_death: Callable[[Item], Result] | None,
) -> Iterator[Result]:
    """Run on processes; after a death go on one item to a process, so that it can be named."""
    source = iter(items)
    waiting: deque[Item] = deque()
    futures: deque[Future[Result]] = deque()
    pool = _pool(count)
    try:
        while True:
            try:
                while (
                    len(waiting) < count * _AHEAD
                    and (item := next(source, _NOTHING)) is not _NOTHING
                ):
                    # Noted first: a pool that breaks at the submit must not lose it.
                    waiting.append(item)
                    futures.append(pool.submit(function, item))
                if not waiting:
                    return
                result = futures[0].result()
            except BrokenProcessPool:
                if on_death is None:
                    raise
                pool.shutdown(wait=True)
                futures.clear()
                while waiting:
                    yield _alone(function, waiting.popleft(), on_death)
                pool = _pool(count)
                continue
            waiting.popleft()
            futures.popleft()
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_NOTHING: Any = object()


def _pool(count: int) -> ProcessPoolExecutor:
    # A fork would copy the parent's threads in an unknown state.
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=ignore_interrupt)


def ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent: a worker finishes the item it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _alone(
    function: Callable[[Item], Result], item: Item, on_death: Callable[[Item], Result]
) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return on_death(item)


def _on_dask(
    function: Callable[[Item], Result], items: Iterable[Item], address: str
) -> Iterator[Result]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("A Dask address needs dask: pip install 'ppi_med[scale]'.") from error
    client: Any = Client(address, set_as_default=False)  # type: ignore[no-untyped-call]
    with client:
        count = sum(client.nthreads().values()) or 1

        def submit(call: Callable[[Item], Result], item: Item) -> Any:
            return client.submit(call, item, pure=False)

        yield from _window(submit, function, items, count * _AHEAD)
