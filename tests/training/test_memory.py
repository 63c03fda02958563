"""Freed memory stays with the process: asked of the allocator, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, torch
from ppi_med.training import keep_freed_memory
taken = keep_freed_memory() if {keep} else True
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# The least of some: a busy machine takes pages away in between.
print(int(taken), min(faults() for _ in range(8)))
"""


def _faults(keep: bool) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(keep=keep)],
        check=True,
        capture_output=True,
        text=True,
    )
    taken, faults = done.stdout.split()
    return int(taken), int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_large_tensor_is_not_mapped_anew_each_time() -> None:
    taken, kept = _faults(keep=True)
    if not taken:
        pytest.skip("another allocator than glibc's")
    _, mapped = _faults(keep=False)
    # 48 MB are some 12,000 pages, or 24 huge ones; a sandboxed kernel may count none.
    if mapped < 24:
        pytest.skip("this kernel does not count page faults")
    # A system short of memory may take pages back meanwhile, and never gives any for nothing.
    for _ in range(3):
        if kept < mapped / 4:
            return
        _, kept = _faults(keep=True)
    assert kept < mapped / 4
