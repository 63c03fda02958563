"""Checkpoints that are complete or absent.

A file is written under a temporary name, flushed to the disk and renamed. Its final name contains
the number of iterations and the hash of its content, so that a damaged file (a torn write below the
file system, a bad disk) is recognised.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppi_med.io import atomic_path

_KEPT = {type(None), bool, int, float, str, bytes, complex, torch.dtype, torch.device, torch.Size}


def plain(value: Any, name: str = "state") -> Any:
    """Return the state with tensors on the CPU and everything else in plain types.

    numpy scalars become Python's; mappings become dicts (an `OrderedDict` stays one).

    Args:
        value: a `state_dict()`, or part of one.
        name: its name in an error.

    Raises:
        TypeError: for a value that a checkpoint cannot hold, naming the key.

    Examples:
        >>> plain({"best": np.float64(0.5)})
        {'best': 0.5}
    """
    # Exact types: numpy's float64 is a float to isinstance, but not to a restricted reader.
    if type(value) in _KEPT:
        return value
    if isinstance(value, torch.Tensor):
        return _plain_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((plain(k, name), plain(v, f"{name}[{k!r}]")) for k, v in value.items())
    if isinstance(value, (list, tuple, set)):
        items = [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
        # A named tuple could not be read back: it becomes a tuple.
        return items if isinstance(value, list) else _rebuilt(value, items)
    raise TypeError(
        f"{name} holds a {type(value).__module__}.{type(value).__qualname__}, expected tensors, "
        "numbers, strings, lists and dicts: change its state_dict() to those."
    )


def _rebuilt(value: Any, items: list[Any]) -> Any:
    return set(items) if isinstance(value, set) else tuple(items)


def _plain_tensor(value: torch.Tensor) -> torch.Tensor:
    """Detach, remove subclasses such as MetaTensor, and copy a view out of its larger storage."""
    tensor = value.detach().as_subclass(torch.Tensor)
    small_view = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone().cpu() if small_view else tensor.cpu()


_NAME = re.compile(r"checkpoint_(?P<iteration>\d+)_(?P<digest>[0-9a-f]{16})\.pt")
_LEFT_OVER = ".checkpoint_*.tmp*"

logger = logging.getLogger(__name__)


class CheckpointStore:
    """A folder with the newest checkpoints of one run.

    Args:
        directory: the folder; made when the first checkpoint is saved.
        keep: how many to keep, at least 2: the old one stays until the new one is complete.

    Raises:
        ValueError: if `keep` is less than 2.

    Examples:
        >>> import tempfile
        >>> store = CheckpointStore(tempfile.mkdtemp())
        >>> _ = store.save({"epoch": 1}, iteration=10)
        >>> store.load()
        {'epoch': 1}
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int = 2) -> None:
        if keep < 2:
            raise ValueError(f"Got keep={keep}, expected at least 2: the last and the one before.")
        self.directory = Path(directory)
        self.keep = keep
        self._damaged: set[Path] = set()

    def save(self, state: dict[str, Any], iteration: int) -> Path:
        """Write a checkpoint, then remove those beyond `keep`.

        A checkpoint that `load` found damaged does not count.

        Args:
            state: state of tensors and plain values, see `ppi_med.training.checkpoints.plain`.
            iteration: number of iterations done.

        Returns:
            The file.

        Raises:
            TypeError: if the state holds something else; the error names the key.
        """
        buffer = io.BytesIO()
        torch.save(plain(state), buffer)
        content = buffer.getbuffer()
        path = self.directory / f"checkpoint_{iteration:010d}_{_digest(content)}.pt"
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        self._damaged.discard(path)
        files = self.files()
        whole = [file for file in files if file not in self._damaged][: self.keep]
        for old in files[files.index(whole[-1]) + 1 :]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> dict[str, Any] | None:
        """Return the state of the newest complete checkpoint, tensors on the CPU; None without one.

        A damaged one is skipped with one line of warning.

        Raises:
            RuntimeError: if there are checkpoints and all are damaged.
        """
        files = self.files()
        damaged: list[Path] = []
        for path in files:
            content = path.read_bytes()
            if _digest(content) == _parsed(path)[1]:
                if damaged:
                    logger.warning(
                        "Damaged checkpoint skipped (%s); continuing from the one before: %s",
                        ", ".join(one.name for one in damaged),
                        path.name,
                    )
                state: dict[str, Any] = torch.load(
                    io.BytesIO(content), map_location="cpu", weights_only=True
                )
                return state
            damaged.append(path)
            self._damaged.add(path)
        if files:
            raise RuntimeError(
                f"All {len(files)} checkpoints in {self.directory} are damaged, expected a whole "
                "one: remove that folder to start the run from the beginning."
            )
        return None

    def files(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        found = (
            path for path in self.directory.glob("checkpoint_*.pt") if _NAME.fullmatch(path.name)
        )
        return sorted(
            found, key=lambda path: (_parsed(path)[0], path.stat().st_mtime_ns), reverse=True
        )

    def clear(self) -> None:
        """Remove all checkpoints, to start from the beginning."""
        for path in self.files():
            path.unlink(missing_ok=True)
        self.remove_left_overs()

    def remove_left_overs(self) -> None:
        """Remove what a killed process left half written. Only one process uses a folder."""
        for path in self.directory.glob(_LEFT_OVER):
            path.unlink(missing_ok=True)


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _parsed(path: Path) -> tuple[int, str]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not named like a checkpoint of this store.")
    return int(match["iteration"]), match["digest"]
