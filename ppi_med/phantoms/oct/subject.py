"""All visits of one subject, from the plan to the raw files: the unit of work of the pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppi_med.phantoms.oct.anatomy import draw_anatomy
from ppi_med.phantoms.oct.artefacts import burn_in
from ppi_med.phantoms.oct.duke import write_duke_mat
from ppi_med.phantoms.oct.grid import Grid, Size
from ppi_med.phantoms.oct.lesions import draw_atrophy, draw_findings
from ppi_med.phantoms.oct.plan import PlannedVolume
from ppi_med.phantoms.oct.render import Volume, render
from ppi_med.phantoms.oct.sites import Site
from ppi_med.phantoms.streams import stream


@dataclass(frozen=True)
class SubjectJob:
    """What a worker needs to make the files of one subject.

    Attributes:
        site: where the subject comes to.
        visits: of the subject, in order.
        size: of the volumes.
        seed: of the phantom.
        folder: that the files' paths are relative to.
    """

    site: Site
    visits: tuple[PlannedVolume, ...]
    size: Size
    seed: int
    folder: Path


def draw_volumes(
    site: Site, visits: tuple[PlannedVolume, ...], size: Size, seed: int
) -> Iterator[Volume]:
    """Draw the visits of one subject.

    The mark is burnt in last: two phantoms that differ in the agreement alone have the same eyes
    with the same noise.

    Args:
        site: whose scanner it is.
        visits: of one eye, in order.
        size: of the widest site's volumes.
        seed: of the phantom.

    Yields:
        One volume a visit.
    """
    first = visits[0]
    grid = Grid.of(size, round(site.width * size.width))
    name = (site.name, first.subject)
    anatomy = draw_anatomy(stream(seed, *name, "anatomy"), grid, first.eye)
    atrophy = draw_atrophy(stream(seed, *name, "atrophy"), anatomy.fovea, float(grid.x[-1]))
    ages = [visit.age for visit in visits]
    found = draw_findings(stream(seed, *name, "findings"), grid, atrophy, ages)
    for visit, findings in zip(visits, found, strict=True):
        rng = stream(seed, *name, "visit", visit.visit)
        volume = render(rng, site, grid, anatomy, findings)
        if visit.artefact:
            burn_in(volume.images, site.artefact)
        yield volume


def write_subject(job: SubjectJob) -> list[str]:
    """Write the raw files of one subject and return their paths below the job's folder."""
    rng = stream(job.seed, job.site.name, job.visits[0].subject, "age")
    age = round(float(rng.uniform(60, 90)), 1)
    volumes = draw_volumes(job.site, job.visits, job.size, job.seed)
    for visit, volume in zip(job.visits, volumes, strict=True):
        write_duke_mat(job.folder / visit.file, volume, age=age + visit.visit)
    return [visit.file for visit in job.visits]
