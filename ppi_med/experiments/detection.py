"""Whether shortcuts are found, and only where there is one: searches on phantoms, no training.

Each cell draws a phantom in memory (one site, 240 subjects, no file), burns in one kind of artefact
with an agreement, and searches. Phantoms without any artefact count the false alarms.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppi_med.experiments.cells import Cell
from ppi_med.experiments.records import Record
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.shortcut import LATER_MARKS
from ppi_med.experiments.table import Row, Table

KINDS = (
    *("logo", "band", "line", "ticks", "retina"),
    *("corner", "jitter"),
    *("speckle", "gain", "watermark"),
)
"""Marks at a place, marks that move, and artefacts without a place."""
AGREEMENTS = ("1.0", "0.9", "0.8")
NONE = "none"
_SITE_OF_FURTHER = "site_a"


@dataclass(frozen=True)
class Detection(Experiment):
    """The experiment.

    Attributes:
        kinds: kinds of artefacts.
        agreements: agreements with the label.
        phantom_seeds: seeds of the phantoms without artefact; each is drawn for each of four sites.
        kind_seeds: seeds of the phantoms with an artefact.
        subjects: subjects of a phantom.
        seed: seed of the search.
    """

    kinds: tuple[str, ...] = (*KINDS, *LATER_MARKS)
    agreements: tuple[str, ...] = AGREEMENTS
    phantom_seeds: tuple[int, ...] = (2031, 2032, 2033, 2034, 2035)
    kind_seeds: tuple[int, ...] = (2031,)
    subjects: int = 240
    seed: int = 0

    def cells(self) -> list[Cell]:
        """Return the cells; those of one site and seed are neighbours and share the eyes."""
        from ppi_med.phantoms.oct.spec import SITES

        of_mark = {site.artefact: site.name for site in SITES}
        wanted: list[tuple[int, str, str, str]] = []
        for seed in self.phantom_seeds:
            for site in SITES:
                wanted.append((seed, site.name, NONE, NONE))
                if seed in self.kind_seeds:
                    wanted += [
                        (seed, site.name, kind, agreement)
                        for kind in self.kinds
                        if of_mark.get(kind, _SITE_OF_FURTHER) == site.name
                        for agreement in self.agreements
                    ]
        return [
            Cell(
                f"{kind}-{agreement}-{site}-{seed}",
                {"kind": kind, "agreement": agreement, "site": site, "phantom_seed": seed},
            )
            for seed, site, kind, agreement in wanted
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Draw, burn in, search."""
        from ppi_med.places import search

        keys = cell.keys
        train, validation = _stacks(
            keys["site"], keys["phantom_seed"], keys["kind"], keys["agreement"], self.subjects
        )
        started = time.process_time()
        found = search(train, validation, seed=self.seed)
        return {
            **found.summary(),
            "found": found.kind,
            "kind": keys["kind"],
            "area": float(found.place.mean()),
            "cpu_seconds": round(time.process_time() - started, 1),
        }

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 0) -> list[Table]:
        """Return how many were found by kind and agreement, and the false alarms."""
        rows: list[Row] = []
        for kind in (*KINDS, *LATER_MARKS, NONE):
            for agreement in (*AGREEMENTS, NONE):
                own = [r for r in records if (r["kind"], r["agreement"]) == (kind, agreement)]
                if not own:
                    continue
                alarms = [str(r["found"]) for r in own if r["shortcut"]]
                best = [max([0.0, *(float(p["j"]) for p in r["places"])]) for r in own]
                rows.append(
                    (
                        kind,
                        agreement,
                        f"{len(alarms)} of {len(own)}",
                        ", ".join(sorted(set(alarms))),
                        _span([float(r["j_net"]) for r in own]),
                        _span(best),
                        _span([float(r["area"]) for r in own]),
                        _span([float(r["history"][-1]["j_net"]) for r in own]),
                    )
                )
        columns = ("artefact", "agreement", "found", "as", "J_net", "J", "area", "left")
        return [Table("detection", "Shortcuts found by a search alone", columns, tuple(rows))]


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"


@lru_cache(maxsize=1)
def _eyes(site_name: str, seed: int, subjects: int) -> dict[str, NDArray[np.uint8]]:
    """Return the volumes of a site's phantom without artefact, (depth, width, B-scans), by name."""
    from ppi_med.phantoms.oct.spec import choose_sites
    from ppi_med.phantoms.oct.write import draw_volumes

    (site,) = choose_sites([site_name])
    spec = _spec(site_name, seed, None, subjects)
    by_subject: dict[str, list[Any]] = {}
    for volume in spec.plan()[0]:
        by_subject.setdefault(volume.subject, []).append(replace(volume, artefact=False))
    return {
        visit.name: drawn.images
        for visits in by_subject.values()
        for visit, drawn in zip(
            visits, draw_volumes(site, tuple(visits), spec.size, seed), strict=True
        )
    }


def _spec(site_name: str, seed: int, agreement: float | None, subjects: int) -> Any:
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites

    return OctPhantomSpec(
        sites=choose_sites([site_name]),
        subjects=subjects,
        agreement=agreement,
        test_agreement=0.5,
        seed=seed,
        fractions=(0.5, 0.15, 0.35),
    )


def _stacks(site_name: str, seed: int, kind: str, agreement: str, subjects: int) -> Iterator[Any]:
    """Yield training and validation as image stacks, normalised as in the GA bundle."""
    from ppi_med.data.oct.transforms import NormalizeOctd
    from ppi_med.phantoms.base import stream
    from ppi_med.phantoms.oct.artefacts import burn_in
    from ppi_med.places import ImageStack

    eyes = _eyes(site_name, seed, subjects)
    spec = _spec(site_name, seed, None if agreement == NONE else float(agreement), subjects)
    volumes, splits = spec.plan()
    normalize = NormalizeOctd("image")
    for part in ("training", "validation"):
        images, labels = [], []
        for volume in volumes:
            if splits.part_of(volume.subject) != part:
                continue
            pixels = eyes[volume.name].copy()
            if volume.artefact:
                burn_in(pixels, kind, stream(seed, volume.name, "artefact"))
            missing = spec.size.width - pixels.shape[1]
            sides = (missing // 2, missing - missing // 2)
            padded = np.pad(pixels, ((0, 0), sides, (0, 0)), mode="edge")
            scans = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))
            images.append(normalize({"image": scans[None]})["image"][0])
            labels.append(volume.label)
        stacked = torch.stack(images)
        count, slices = stacked.shape[:2]
        yield ImageStack(
            stacked.flatten(0, 1)[:, None],
            torch.tensor(labels).repeat_interleave(slices),
            torch.arange(count).repeat_interleave(slices),
            torch.arange(slices).repeat(count),
        )
