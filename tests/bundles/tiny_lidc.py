"""The bundle lidc_ppi on nodules so few and small that an epoch takes a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bundles.tiny import ROOT

BUNDLE = ROOT / "bundles" / "lidc_ppi"

# Everything else is as in the bundle, PPI with the shared place included.
SMALL: dict[str, Any] = {
    "device": "$torch.device('cpu')",
    "image_size": 16,
    "field_mm": 16.0,
    "batch_size": 8,
    "max_epochs": 2,
    "architecture_options": {"widths": [4, 8], "convolutions": 1},
}


def settings(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the overrides of a tiny run that keeps all it writes below `output`."""
    places = {
        "dataset_dir": str(data),
        "output_dir": str(output / "run"),
        "ckpt_dir": str(output / "models"),
        "tracking_uri": "none",
    }
    return {**SMALL, **places, **changes}


def run_bundle(files: str | list[str], overrides: dict[str, Any]) -> None:
    """Run configurations of the bundle, by name, as `python -m monai.bundle run` does."""
    from monai.bundle import run

    names = [files] if isinstance(files, str) else files
    paths = [str(BUNDLE / name) for name in names]
    run(config_file=paths if len(paths) > 1 else paths[0], logging_file=False, **overrides)
