"""Makes `import torchvision` work with a CPU build of torch.

A package index's default torchvision is built for CUDA. Its compiled part does not load without
torch's CUDA libraries, and then its Python part fails because two operators were never declared.
Declaring their signatures is all that the import needs; networks, transforms and the functions
that are written in Python then work. What needs the compiled part still refuses clearly.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

_BOX_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A torch library's declarations end when it is collected, so it is never released.
_declared: list[Any] = []


def ensure_torchvision() -> bool:
    """Prepare `import torchvision`; call it first. Further calls do nothing.

    A build whose compiled part loads is left unchanged. Otherwise the two operators that the import
    needs are declared.

    Returns:
        Whether torchvision is installed.

    Examples:
        >>> if ensure_torchvision():
        ...     import torchvision
    """
    if "torchvision" in sys.modules:
        return True
    folder = _installed_folder()
    if folder is None:
        return False
    if not _declared and not _native_part_loads(folder):
        _declare_operators()
    return True


def _installed_folder() -> Path | None:
    """Return torchvision's folder without importing it, or None where it is not installed."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _native_part_loads(folder: Path) -> bool:
    """Load the compiled part; a file that needs missing CUDA libraries raises OSError."""
    import torch

    for library in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]):
        try:
            torch.ops.load_library(str(library))
        except (ImportError, OSError):
            continue
        return True
    return False


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _BOX_OPERATORS:
        library.define(name + _SIGNATURE)
    _declared.append(library)
