"""The bundle ga_ppi on a data set so small that an epoch takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "ga_ppi"
SITES = ["site_a", "site_b"]

METHOD = "ppi_wbp_shared"
"""Uses every part of PPI."""
# Everything else is as in the bundle.
SMALL: dict[str, Any] = {
    "device": "$torch.device('cpu')",
    "image_size": [32, 40],
    "num_slices": 3,
    "batch_size": 4,
    "max_epochs": 2,
    "network_def#backbone_options": {"widths": [4, 8], "downsampling": "stride"},
}


def make_phantom(folder: Path) -> Path:
    """Write 28 volumes of 28 simulated subjects at two sites; 17 to train, 6 and 5 held out."""
    from ppi_med.phantoms.oct.grid import Size
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites
    from ppi_med.phantoms.oct.write import make_oct_phantom

    spec = OctPhantomSpec(
        sites=choose_sites(SITES),
        subjects=14,
        visits=(1, 1),
        agreement=0.5,
        size=Size(32, 40, 8),
        seed=1,
        folds=2,
    )
    make_oct_phantom(spec, folder)
    return folder


def make_marked(folder: Path) -> Path:
    """Write 40 volumes of one site, whose mark goes with the label in training and validation."""
    from ppi_med.phantoms.oct.grid import Size
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites
    from ppi_med.phantoms.oct.write import make_oct_phantom

    spec = OctPhantomSpec(
        sites=choose_sites(SITES[:1]),
        subjects=40,
        visits=(1, 1),
        agreement=1.0,
        test_agreement=0.5,
        size=Size(32, 40, 8),
        seed=1,
        fractions=(0.5, 0.25, 0.25),
    )
    make_oct_phantom(spec, folder)
    return folder


def settings(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the overrides of a tiny run that keeps all it writes below `output`."""
    places = {
        "dataset_dir": str(data),
        "output_dir": str(output / "run"),
        "ckpt_dir": str(output / "models"),
        "tracking_uri": "none",
    }
    return {**SMALL, "method": METHOD, **places, **changes}


def run_bundle(files: str | list[str], overrides: dict[str, Any]) -> None:
    """Run configurations of the bundle, by name, as `python -m monai.bundle run` does."""
    from monai.bundle import run

    names = [files] if isinstance(files, str) else files
    paths = [str(BUNDLE / name) for name in names]
    run(config_file=paths if len(paths) > 1 else paths[0], logging_file=False, **overrides)
