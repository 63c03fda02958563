"""Running the conversion's tasks: in this process or in several, always in order."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from ppi_med.data.oct.worker import Result, Task, convert_source, ignore_interrupt


def run_all(tasks: Sequence[Task], workers: int, progress: bool) -> tuple[list[Result], bool]:
    """Run the tasks; return their results in order, and whether the user stopped them."""
    from tqdm import tqdm

    results: list[Result] = []
    workers = min(workers, len(tasks))
    done = _in_process(tasks) if workers <= 1 else _in_pool(tasks, workers)
    bar = tqdm(total=len(tasks), unit="file", disable=not progress or not tasks, desc="OCT")
    try:
        for result in done:
            results.append(result)
            bar.update()
            if result.status == "failed" and progress:
                bar.write(f"failed  {result.relative}: {result.reason}")
    except KeyboardInterrupt:
        return results, True
    finally:
        done.close()
        bar.close()
    return results, False


def _in_process(tasks: Sequence[Task]) -> Generator[Result, None, None]:
    for task in tasks:
        yield convert_source(task)


def _in_pool(tasks: Sequence[Task], workers: int) -> Generator[Result, None, None]:
    """Yield the results in the tasks' order.

    If a worker dies (a crash in a decoder, the system short of memory), the rest is done one file
    to a process, so that the file that did it can be named.
    """
    context = get_context("spawn")  # a fork would copy the parent's threads in an unknown state
    next_one = 0
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=ignore_interrupt)
    try:
        futures: list[Future[Result]] = [pool.submit(convert_source, task) for task in tasks]
        for future in futures:
            yield future.result()
            next_one += 1
        return
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for task in tasks[next_one:]:
        with ProcessPoolExecutor(1, mp_context=context, initializer=ignore_interrupt) as single:
            try:
                yield single.submit(convert_source, task).result()
            except BrokenProcessPool:
                reason = "the process that read it died (out of memory, or a damaged file)."
                yield task.result("failed", reason)
