"""Memory that a training step frees is reused by the next one, not returned each time."""

from __future__ import annotations

import ctypes
import logging
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1

logger = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Let this process keep the memory that its tensors free, for later tensors.

    glibc maps each large tensor again from the kernel, which fills it with zeros page by page: on a
    CPU that can cost more than the convolution that writes it. The peak stays the same; between
    peaks the process no longer shrinks. GPU memory is managed by torch and not affected.

    Returns:
        Whether the allocator accepted it; False if it is not glibc's.

    Examples:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        options = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    taken = bool(options(_MMAP_MAX, 0)) and bool(options(_TRIM_THRESHOLD, _LARGEST))
    if not taken:
        logger.info("The allocator did not accept the setting: freed memory is given back.")
    return taken
