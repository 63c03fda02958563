"""Inference of the GA network on OCT files: probability, slice weights, map, report.

- `volumes`: files of any supported format; `ga`: one volume to a result.
- `explain`: the network's answer and its map, in bounded memory.
- `outputs`: the files of a volume; `report`: its page.
- `evaluator`, `handler`: the same as parts of a MONAI bundle.

They are imported on first use, so that reading a volume does not import MONAI.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "GaInferer": "evaluator",
        "GaOutputs": "handler",
        "GaResult": "ga",
        "LoadedVolume": "volumes",
        "OctFiles": "evaluator",
        "VolumeExplanation": "explain",
        "VolumeMap": "explain",
        "explain_volume": "explain",
        "find_inputs": "volumes",
        "infer_iteration": "evaluator",
        "infer_volume": "ga",
        "read_volumes": "volumes",
        "single_item": "evaluator",
        "standard_preprocessing": "ga",
        "write_outputs": "outputs",
    },
)
