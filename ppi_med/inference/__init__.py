"""Inference of the GA network on OCT files: probability, slice weights, map, report.

- ``ga``: one volume to a result; ``explain``: the network and its map, in bounded memory.
- ``volumes``: files of any supported format.
- ``outputs``: what is written for a volume; ``nifti``, ``identity``, ``report``: parts of it.
- ``dataset``, ``evaluator``, ``handler``: the same as parts of a MONAI bundle.
- ``volume_map``: the map alone, as a saliency method.

They are imported on first use, so that reading a volume does not cost MONAI.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "GaInferer": "evaluator",
    "GaOutputs": "handler",
    "GaResult": "ga",
    "LoadedVolume": "volumes",
    "OctFiles": "dataset",
    "VolumeExplanation": "explain",
    "VolumeMap": "volume_map",
    "explain_volume": "explain",
    "find_inputs": "volumes",
    "infer_iteration": "evaluator",
    "infer_volume": "ga",
    "read_volumes": "volumes",
    "single_item": "dataset",
    "standard_preprocessing": "ga",
    "write_outputs": "outputs",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
