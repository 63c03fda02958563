"""Who comes when with what: the volumes of an OCT phantom before any pixel is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.phantoms.oct.sites import Site
from ppi_med.phantoms.streams import stream

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

    Exactly ``round(prevalence * subjects)`` subjects of a site have GA at their last visit. Some of
    those with several visits (`CONVERTERS`) do not have it yet at the first. The numbers of visits
    are as evenly spread as possible.

    Args:
        sites: the clinics.
        subjects: number of subjects of each site.
        visits: least and greatest number of visits of a subject.
        seed: of the phantom.

    Returns:
        One entry a volume, without artefacts, in the order of site, subject and visit.

    Raises:
        UsageError: for fewer than one subject or visit.

    Examples:
        >>> from ppi_med.phantoms.oct.sites import choose_sites
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
