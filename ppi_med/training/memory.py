"""Memory that a training step frees is used again by the next one, not handed back each time."""

from __future__ import annotations

import ctypes
import logging
import sys

# glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1

logger = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Let this process keep the memory that its tensors free, for tensors to come.

    glibc maps each large tensor anew from the kernel, which fills it with zeros page by page: on a
    CPU that can cost more than the convolution that writes it. The peak stays what it is; between
    peaks the process no longer shrinks. A GPU's memory is torch's own affair and not touched.

    Returns:
        Whether the allocator has taken it; False where it is another one than glibc's.

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
        logger.info("The allocator did not take the setting: freed memory is handed back.")
    return taken
