"""Running the conversion's tasks: in this process or in several, always in order."""

from __future__ import annotations

from collections.abc import Sequence

from ppi_med.data.oct.worker import Result, Task, convert_source
from ppi_med.parallel import run_tasks


def run_all(tasks: Sequence[Task], workers: int, progress: bool) -> tuple[list[Result], bool]:
    """Run the tasks; return their results in order, and whether the user stopped them."""
    from tqdm import tqdm

    results: list[Result] = []
    workers = max(1, min(workers, len(tasks)))
    done = run_tasks(convert_source, tasks, workers=workers, on_death=_lost)
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
        bar.close()
    return results, False


def _lost(task: Task) -> Result:
    reason = "the process that read it died (out of memory, or a damaged file)."
    return task.result("failed", reason)
