"""The processes that train together: which one this is, and what all of them have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import distributed

T = TypeVar("T")


def in_use() -> bool:
    """Say whether several processes train together by `torch.distributed`."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return this process's number, 0 for the first or only one.

    >>> rank()
    0
    """
    return distributed.get_rank() if in_use() else 0


def world_size() -> int:
    """Return the number of processes.

    >>> world_size()
    1
    """
    return distributed.get_world_size() if in_use() else 1


def started_rank() -> int:
    """Return the process's number, which torchrun gives before `torch.distributed` is in use."""
    return rank() if in_use() else int(os.environ.get("RANK", "0"))


def of_all(value: T) -> list[T]:
    """Return every process's value, in the order of ranks; all have to call it.

    >>> of_all("a")
    ['a']
    """
    if not in_use():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def rows_of_all(rows: Sequence[T]) -> list[T]:
    """Return the rows of every process as one list, in the order of ranks.

    >>> rows_of_all([1, 2])
    [1, 2]
    """
    return [row for share in of_all(rows) for row in share]
