"""Eyes for the tests, drawn without files."""

from __future__ import annotations

from dataclasses import replace

from ppi_med.phantoms.base import stream
from ppi_med.phantoms.oct.anatomy import Anatomy, draw_anatomy
from ppi_med.phantoms.oct.grid import Grid, Size
from ppi_med.phantoms.oct.lesions import Findings, draw_atrophy, draw_findings
from ppi_med.phantoms.oct.render import Volume
from ppi_med.phantoms.oct.spec import SITES, PlannedVolume, Site
from ppi_med.phantoms.oct.write import draw_volumes

SIZE = Size(64, 64, 16)


def maps(
    subject: str,
    ages: list[float | None],
    *,
    site: Site = SITES[0],
    size: Size = SIZE,
    seed: int = 0,
) -> tuple[Grid, Anatomy, list[Findings]]:
    """The grid, the anatomy and each visit's findings of one eye."""
    grid = Grid.of(size, round(site.width * size.width))
    anatomy = draw_anatomy(stream(seed, site.name, subject, "anatomy"), grid, "OD")
    atrophy = draw_atrophy(
        stream(seed, site.name, subject, "atrophy"), anatomy.fovea, float(grid.x[-1])
    )
    rng = stream(seed, site.name, subject, "findings")
    return grid, anatomy, draw_findings(rng, grid, atrophy, ages)


def volumes(
    subject: str,
    ages: list[float | None],
    *,
    site: Site = SITES[0],
    size: Size = SIZE,
    seed: int = 0,
    artefact: bool = False,
) -> list[Volume]:
    """The rendered visits of one eye."""
    plan = PlannedVolume(site.name, subject, "OD", 0, None)
    visits = tuple(replace(plan, visit=i, age=age, artefact=artefact) for i, age in enumerate(ages))
    return list(draw_volumes(site, visits, size, seed))
