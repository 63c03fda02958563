"""Sweeps by name: all the settings of an experiment that docs/results.md reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.experiments.cross_site.plan import PLACE


@dataclass(frozen=True)
class GaPhantom:
    """Four simulated sites; the mark of the training site tells the label there, and only there.

    For each training site there is a data set: its own mark agrees with the label in all of its
    training and validation subjects (1.0), and by chance in its held-out subjects; the other sites
    have no mark. The eyes are the same in all of them.

    Attributes:
        subjects: of each site.
        seed: of the phantom; methods were developed on others.
        fractions: of subjects, for training, validation and test.
        held_out: agreement in the held-out subjects of the training site. At 1.0 the mark is right
            there too: plain training that reads it is perfect on the diagonal.
    """

    subjects: int = 160
    seed: int = 2029
    fractions: tuple[float, float, float] = (0.6, 0.1, 0.3)
    held_out: float = 0.5

    def make(self, folder: Path, workers: int) -> None:
        """Make the data sets, or complete them: ``FOLDER/SITE`` for each training site."""
        from ppi_med.phantoms.oct.sites import SITES
        from ppi_med.phantoms.oct.spec import OctPhantomSpec
        from ppi_med.phantoms.oct.write import make_oct_phantom

        for site in SITES:
            spec = OctPhantomSpec(
                subjects=self.subjects,
                agreement={site.name: 1.0},
                test_agreement={site.name: self.held_out},
                seed=self.seed,
                fractions=self.fractions,
            )
            make_oct_phantom(spec, folder / site.name, workers=workers)


@dataclass(frozen=True)
class Preset:
    """A sweep by name.

    Attributes:
        bundle: its folder.
        data: folder of the data.
        dataset_dir: as the runs are told.
        methods: to compare.
        overrides: of every run.
        phantom: makes the data; None where it must be there.
    """

    bundle: str
    data: str
    dataset_dir: str
    methods: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    phantom: GaPhantom | None = None


def _last_epoch(epochs: int) -> dict[str, Any]:
    """Return what takes the last epoch's network, for every method alike.

    In-site validation is perfect on the mark: to choose an epoch by it would be to choose the mark.
    """
    return {
        "max_epochs": epochs,
        "lr_step": round(0.7 * epochs),
        "patience": epochs,
        "val_interval": epochs // 4,
        "validate#handlers#0#start_epoch": epochs,
    }


_BASELINES = ("strong_augmentation", "random_mask", "group_dro", "irm", "rsc")
_GA = Preset(
    bundle="bundles/ga_ppi",
    data="data/ga_cross_site",
    dataset_dir=f"data/ga_cross_site/{PLACE}",
    methods=("plain", "random_mask", "ppi_wbp_shared"),
    overrides={
        **_last_epoch(80),
        # A site's mark lies where it lies: training keeps the images where they are.
        "augment#shift_rows": 0.0,
        "augment#shift_columns": 0.0,
        "augment#rotate_degrees": 0.0,
    },
    phantom=GaPhantom(),
)
PRESETS: dict[str, Preset] = {
    "ga-phantom": _GA,
    "ga-phantom-marked": replace(
        _GA,
        data="data/ga_cross_site_marked",
        dataset_dir=f"data/ga_cross_site_marked/{PLACE}",
        phantom=GaPhantom(held_out=1.0),
    ),
    "lidc-vendors": Preset(
        bundle="bundles/lidc_ppi",
        data="",
        dataset_dir="",
        methods=(
            "plain",
            *_BASELINES,
            "random_context",
            "right_reasons",
            "ppi_wbp_shared",
            "ppi_wbp_context",
        ),
    ),
}


def preset_of(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UsageError: where there is none of that name.

    Example:
        >>> preset_of("ga-phantom").methods
        ('plain', 'random_mask', 'ppi_wbp_shared')
    """
    if name not in PRESETS:
        raise UsageError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]
