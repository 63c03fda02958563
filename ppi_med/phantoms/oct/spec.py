"""The scanners and parameters of an OCT phantom, and the plan that follows from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import Splits, make_splits
from ppi_med.errors import UsageError
from ppi_med.phantoms.agreement import Agreement, assign_artefacts
from ppi_med.phantoms.base import stream
from ppi_med.phantoms.oct.artefacts import FURTHER, MARKS
from ppi_med.phantoms.oct.grid import Size


@dataclass(frozen=True)
class Site:
    """One clinic with its scanner.

    Attributes:
        name: as in the manifest.
        artefact: name of the mark that its scanner may burn in, one of `MARKS` or `FURTHER`.
        prevalence: part of the subjects that have GA at their last visit.
        width: A-scans as a part of the widest site's.
        looks: looks of the speckle: frames averaged, more is smoother.
        floor_db: noise floor of the detector.
        window_db: weakest and strongest signal on the grey scale.
        gamma: exponent of the grey curve after the window, above 1 is darker.
        grey_noise: deviation of the noise of the grey values, 0 to 255.
        blur_px: deviation of the point spread, axial and lateral, in samples.
        gain_db: gain of the signal from all tissue.
        attenuation_db: loss of signal per mm of tissue.
    """

    name: str
    artefact: str
    prevalence: float
    width: float = 1.0
    looks: float = 4.0
    floor_db: float = 5.0
    window_db: tuple[float, float] = (0.0, 30.0)
    gamma: float = 1.0
    grey_noise: float = 0.0
    blur_px: tuple[float, float] = (0.5, 0.5)
    gain_db: float = 0.0
    attenuation_db: float = 12.0

    def __post_init__(self) -> None:
        if self.artefact not in {**MARKS, **FURTHER}:
            raise UsageError(
                f"Site {self.name}: artefact {self.artefact!r} is unknown, "
                f"expected one of {', '.join(sorted({**MARKS, **FURTHER}))}."
            )
        for name in ("prevalence", "width"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f"Site {self.name}: {name} is {getattr(self, name)}, expected 0 to 1."
                )

    @property
    def letter(self) -> str:
        """What the ids of its subjects begin with, `A` for `site_a`."""
        return self.name.removeprefix("site_").upper()


SITES: tuple[Site, ...] = (
    Site("site_a", artefact="logo", prevalence=0.5),
    Site(
        "site_b",
        artefact="band",
        prevalence=0.4,
        width=0.9,
        looks=2.0,
        floor_db=8.5,
        window_db=(0.0, 31.0),
        grey_noise=5.0,
        blur_px=(0.4, 0.6),
        gain_db=-1.0,
    ),
    Site(
        "site_c",
        artefact="line",
        prevalence=0.6,
        width=0.8,
        looks=10.0,
        floor_db=1.0,
        window_db=(2.0, 30.0),
        gamma=1.25,
        blur_px=(0.6, 0.8),
        attenuation_db=16.0,
    ),
    Site(
        "site_d",
        artefact="ticks",
        prevalence=0.35,
        width=1.0,
        looks=3.0,
        floor_db=6.0,
        window_db=(3.0, 27.0),
        gamma=0.8,
        grey_noise=3.0,
        blur_px=(0.7, 0.4),
        gain_db=1.0,
        attenuation_db=8.0,
    ),
)


def choose_sites(names: Sequence[str] | None = None) -> tuple[Site, ...]:
    """Return the default sites of these names, all four without names.

    Args:
        names: such as `["site_a", "site_c"]`.

    Raises:
        UsageError: if a name is unknown, or there are no or repeated names.

    Examples:
        >>> [site.artefact for site in choose_sites(["site_a", "site_c"])]
        ['logo', 'line']
    """
    known = {site.name: site for site in SITES}
    if names is None:
        return SITES
    for name in names:
        if name not in known:
            raise UsageError(f"Site {name!r} is unknown, expected some of {', '.join(known)}.")
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Sites are {list(names)}, expected one or more different names.")
    return tuple(known[name] for name in names)


CONVERTERS = 0.15
"""Part of the subjects with GA and several visits who do not have it yet at their first visit."""

LABEL_RULE = "phantom: 1 where the lesion mask is not empty"


@dataclass(frozen=True)
class PlannedVolume:
    """One visit of one eye.

    Attributes:
        site: name of the clinic.
        subject: id, unique over all sites.
        eye: "OD" or "OS".
        visit: number from 0.
        age: visits since GA was first seen, None where the eye has none yet.
        artefact: whether the site's mark is burnt in.
    """

    site: str
    subject: str
    eye: str
    visit: int
    age: float | None
    artefact: bool = False

    @property
    def label(self) -> int:
        """1 where this visit shows GA, else 0."""
        return int(self.age is not None)

    @property
    def name(self) -> str:
        """Subject, eye and visit, as in the file's name."""
        return f"{self.subject}_{self.eye}_v{self.visit + 1}"

    @property
    def file(self) -> str:
        """Path of the raw file below the folder `raw`."""
        return str(PurePosixPath(self.site) / f"{self.name}.mat")


def plan_volumes(
    sites: Sequence[Site], *, subjects: int, visits: tuple[int, int], seed: int
) -> list[PlannedVolume]:
    """Plan the subjects of each site, their visits and when GA comes.

    Exactly `round(prevalence * subjects)` subjects of a site have GA at their last visit. Some of
    those with several visits (`CONVERTERS`) do not have it yet at the first. The numbers of visits
    are as evenly spread as possible.

    Args:
        sites: the clinics.
        subjects: number of subjects of each site.
        visits: least and greatest number of visits of a subject.
        seed: seed of the phantom.

    Returns:
        One entry per volume, without artefacts, in the order of site, subject and visit.

    Raises:
        UsageError: for fewer than one subject or visit.

    Examples:
        >>> from ppi_med.phantoms.oct.spec import choose_sites
        >>> plan = plan_volumes(choose_sites(["site_a"]), subjects=2, visits=(1, 1), seed=0)
        >>> sorted(volume.label for volume in plan)
        [0, 1]
    """
    least, most = visits
    if subjects < 1:
        raise UsageError(f"subjects is {subjects}, expected 1 or more at each site.")
    if not 1 <= least <= most:
        raise UsageError(f"visits is {least} to {most}, expected 1 or more, least first.")
    return [volume for site in sites for volume in _plan_site(site, subjects, least, most, seed)]


def _plan_site(site: Site, subjects: int, least: int, most: int, seed: int) -> list[PlannedVolume]:
    rng = stream(seed, site.name, "plan")
    with_ga = rng.permutation(subjects) < round(site.prevalence * subjects)
    numbers = rng.permutation(least + np.arange(subjects) % (most - least + 1))
    right = rng.random(subjects) < 0.5
    several = np.flatnonzero(with_ga & (numbers > 1))
    converters = set(several[: round(CONVERTERS * len(several))].tolist())
    volumes = []
    for index in range(subjects):
        onset = int(index in converters) if with_ga[index] else None
        for visit in range(int(numbers[index])):
            volumes.append(
                PlannedVolume(
                    site=site.name,
                    subject=f"{site.letter}{index + 1:03d}",
                    eye="OD" if right[index] else "OS",
                    visit=visit,
                    age=None if onset is None or visit < onset else float(visit - onset),
                )
            )
    return volumes


@dataclass(frozen=True)
class OctPhantomSpec:
    """All that an OCT phantom depends on.

    Attributes:
        sites: the clinics.
        subjects: number of subjects of each site.
        visits: least and greatest number of visits of a subject.
        agreement: agreement of the mark with the label, for all sites or by name; see `Agreement`.
        test_agreement: agreement of the test subjects; "same" as the others', by default.
        size: size of the widest site's volumes.
        seed: seed of the eyes, visits and marks.
        split_seed: seed of the splits.
        fractions: fractions of subjects, for training, validation and test.
        folds: over training and validation.
    """

    sites: tuple[Site, ...] = SITES
    subjects: int = 60
    visits: tuple[int, int] = (1, 2)
    agreement: Agreement = 0.5
    test_agreement: Agreement | Literal["same"] = "same"
    size: Size = field(default_factory=Size)
    seed: int = 0
    split_seed: int = 0
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more.")
        letters = [site.letter for site in self.sites]
        if len(set(letters)) < len(letters):
            raise UsageError(
                f"Two sites give the same subject ids: {[s.name for s in self.sites]}."
            )

    def plan(self) -> tuple[list[PlannedVolume], Splits]:
        """Return the volumes with their marks, and the splits that the marks were dealt by."""
        volumes = plan_volumes(
            self.sites, subjects=self.subjects, visits=self.visits, seed=self.seed
        )
        rows = [ManifestRow(v.name, subject=v.subject, site=v.site, label=v.label) for v in volumes]
        try:
            splits = make_splits(
                rows, fractions=self.fractions, folds=self.folds, seed=self.split_seed
            )
        except ValueError as error:
            raise UsageError(f"These subjects cannot be parted: {error}") from error
        parts = {s: part for part, subjects in splits.parts.items() for s in subjects}
        by_part: dict[str, Agreement] = {}
        if self.test_agreement != "same":
            by_part["test"] = self.test_agreement
        marked = assign_artefacts(
            volumes, self.agreement, parts=parts, by_part=by_part, seed=self.seed
        )
        return marked, splits

    def parameters(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values = asdict(self)
        values["spacing_mm"] = dict(
            zip(("lateral", "axial", "between"), self.size.spacing_mm, strict=True)
        )
        return dict(json.loads(json.dumps(values)))
