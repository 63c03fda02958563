"""The cells of the comparison: some photographs, one network, one method each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ppi_med.data.photos.layouts import read_photos
from ppi_med.data.photos.photo import Photo
from ppi_med.experiments.cells import Cell, Records
from ppi_med.experiments.map_comparison.measure import columns, lines, measure
from ppi_med.experiments.map_comparison.methods import METHODS, REFERENCE, map_method
from ppi_med.experiments.map_comparison.networks import preparation_of, pretrained
from ppi_med.experiments.map_comparison.photographs import load_photographs
from ppi_med.experiments.runner import run_cells

# Per-image results do not depend on it.
_BATCH = 10


@dataclass(frozen=True)
class ComparisonPlan:
    """What is compared.

    Attributes:
        network: name of a classifier, such as ``squeezenet1_1``.
        weights: file of its state dict, head included.
        images: folder of photographs with boxes, in a layout of
            :func:`ppi_med.data.photos.layouts.read_photos`.
        methods: names, see :data:`~.methods.METHODS`.
        part: photographs a cell: a stopped run loses at most one cell.
        most: photographs in all; None: all there are.
        classes: of the network.
        side: photographs are cut to side x side.
    """

    network: str
    weights: Path
    images: Path
    methods: tuple[str, ...] = METHODS
    part: int = 60
    most: int | None = None
    classes: int = 1000
    side: int = 224

    def cells(self) -> list[Cell]:
        """Return the cells, method by method."""
        count = len(self._photos())
        return [
            Cell(
                f"{self.network}-{method}-{first:04d}",
                {"network": self.network, "method": method, "first": first},
            )
            for method in self.methods
            for first in range(0, count, self.part)
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Measure one cell.

        Raises:
            UsageError: a method is unknown or an image does not fit.
        """
        preparation = preparation_of(self.network)
        network = pretrained(self.network, self.weights, self.classes)
        method = map_method(cell.keys["method"], preparation.bounds())
        reference = map_method(REFERENCE, preparation.bounds())
        photos = self.photos_of(cell, self._photos())
        written: list[str] = []
        for start in range(0, len(photos), _BATCH):
            batch = load_photographs(photos[start : start + _BATCH], self.side)
            image = preparation(batch.images).contiguous(memory_format=torch.channels_last)
            found = measure(network, method, reference, image, batch.labels, batch.masks)
            written += lines(found)
        return {
            **self.source(photos),
            "columns": ",".join(columns(self.side**2)),
            "rows": written,
        }

    def source(self, photos: Sequence[Photo]) -> dict[str, Any]:
        """Return what a cell with these photographs is made of, as its record says it."""
        return {"weights": self.weights.name, "images": f"{photos[0].name} .. {photos[-1].name}"}

    def photos_of(self, cell: Cell, photos: Sequence[Photo]) -> Sequence[Photo]:
        """Return a cell's photographs among all."""
        first = int(cell.keys["first"])
        return photos[first : first + self.part]

    def sources(self) -> dict[str, dict[str, Any]]:
        """Return what each cell is made of, by name; the folder is read once."""
        photos = self._photos()
        return {c.name: self.source(self.photos_of(c, photos)) for c in self.cells()}

    def _photos(self) -> list[Photo]:
        return read_photos(self.images)[: self.most]


def run_comparison(plan: ComparisonPlan, records: Records, workers: int = 1) -> dict[str, str]:
    """Run what is missing.

    Returns:
        Cell name -> reason, of the cells that failed.

    Raises:
        UsageError: where records are there of other photographs or weights.
    """
    records.require_same(plan.sources())
    return run_cells(plan.cells(), records, partial(_run, plan), workers=workers)


def _run(plan: ComparisonPlan, cell: Cell) -> dict[str, Any]:
    return plan.run(cell)
