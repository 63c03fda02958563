"""The random states of Python, numpy, torch and CUDA: read, restored, or set inside a block."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def derive_seeds(count: int, *parts: int) -> list[int]:
    """Return `count` independent seeds below 2^32 that depend on every part.

    Args:
        count: how many.
        parts: numbers of 0 or more, such as seed, epoch and position.

    Examples:
        >>> derive_seeds(1, 7, 0) != derive_seeds(1, 7, 1)
        True
    """
    return np.random.SeedSequence(parts).generate_state(count).tolist()  # type: ignore[no-any-return]


def take_state(cuda: bool = True) -> State:
    """Return the global random states, of tensors and plain values only.

    Args:
        cuda: include those of the CUDA devices, if CUDA is in use.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: State = {
        "python": random.getstate(),
        "numpy": (
            name,
            torch.from_numpy(np.array(keys, dtype=np.int64)),
            position,
            has_gauss,
            gauss,
        ),
        "torch": torch.get_rng_state(),
    }
    if cuda and torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def give_state(state: Mapping[str, Any]) -> None:
    """Restore global random states.

    Args:
        state: from `take_state`. States of missing CUDA devices are ignored.
    """
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, one in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one.cpu(), device)


@contextmanager
def seeded(python: int, numpy: int, torch_: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's CPU generator inside the block, then restore them.

    Args:
        python: seed of `random`.
        numpy: seed of `numpy.random`, below 2^32.
        torch_: seed of torch on the CPU. CUDA is not seeded: worker processes must not touch it.

    Examples:
        >>> with seeded(1, 2, 3):
        ...     first = random.random()
        >>> with seeded(1, 2, 3):
        ...     first == random.random()
        True
    """
    before_python, before_numpy = random.getstate(), np.random.get_state(legacy=True)
    before_torch = torch.get_rng_state()
    try:
        random.seed(python)
        np.random.seed(numpy)
        torch.default_generator.manual_seed(torch_)
        yield
    finally:
        random.setstate(before_python)
        np.random.set_state(before_numpy)
        torch.set_rng_state(before_torch)
