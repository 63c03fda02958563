"""Random numbers by name: each thing that is drawn has a stream of its own.

A stream depends on the seed and on what it is for, never on the order of the work or the number of
workers, so a volume is the same whatever else is made beside it.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator of `names` under `seed`.

    Args:
        seed: seed of the whole phantom, 0 or more.
        names: what is drawn, for example `"site_a", "A001", "anatomy"`.

    Examples:
        >>> a, b = stream(1, "site_a", "A001"), stream(1, "site_a", "A001")
        >>> bool(a.random() == b.random())
        True
        >>> bool(stream(1, "A001").random() == stream(1, "A002").random())
        False
    """
    key = tuple(zlib.crc32(str(name).encode("utf-8")) for name in names)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
