"""Saliency methods on photographs: deletion, insertion, energy in the box; cells and table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med.data.photos.layouts import read_photos
from ppi_med.data.photos.photo import Photo
from ppi_med.evaluation.bootstrap import Interval, interval, of_mean
from ppi_med.evaluation.checks import Floats
from ppi_med.evaluation.faithfulness import TOP_K, deletion_curve, insertion_curve
from ppi_med.evaluation.localisation import energy_inside, pointing_game
from ppi_med.evaluation.measures import MapMethod, pixel_values, ranks
from ppi_med.evaluation.sanity import rank_correlation
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.map_inputs import (
    METHODS,
    REFERENCE,
    load_photographs,
    map_method,
    preparation_of,
    pretrained,
)
from ppi_med.experiments.records import Record
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, Value, ranged

# Those of Figure 5, and two between them and all of 224 x 224.
COUNTS = (*TOP_K, 25000)
TOP = 1000
AGREEMENT, ENERGY_TOP, ENERGY_ALL, POINTING, BOX = (
    "agreement",
    "energy_top",
    "energy_all",
    "pointing",
    "box_share",
)
DELETION_AREA, INSERTION_AREA, REDUCTION = "deletion_area", "insertion_area", "reduction"
REDUCTION_COUNT = 1000
QUANTITIES = {
    DELETION_AREA: "deletion, area ↓",
    REDUCTION: f"reduction at {REDUCTION_COUNT} ↑",
    INSERTION_AREA: "insertion, area ↑",
    ENERGY_TOP: f"energy in box, top {TOP} ↑",
    ENERGY_ALL: "energy in box, all ↑",
    POINTING: "pointing game ↑",
    AGREEMENT: "rank correlation with WBP",
}
# Results per image do not depend on it.
_BATCH = 10
SINGLE = (AGREEMENT, ENERGY_TOP, ENERGY_ALL, POINTING, BOX)


@dataclass(frozen=True)
class Maps(Experiment):
    """The experiment: each cell has some photographs, one network and one method.

    Attributes:
        network: name of a classifier, such as `squeezenet1_1`.
        weights: file of its state dict, head included.
        images: folder of photographs with boxes, in a layout of
            `ppi_med.data.photos.layouts.read_photos`.
        methods: names, see `METHODS`.
        part: photographs per cell: a stopped run loses at most one cell.
        most: largest number of photographs; None: all.
        classes: classes of the network.
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
        """Return the inputs of a cell with these photographs, as in its record."""
        return {"weights": self.weights.name, "images": f"{photos[0].name} .. {photos[-1].name}"}

    def photos_of(self, cell: Cell, photos: Sequence[Photo]) -> Sequence[Photo]:
        """Return a cell's photographs among all."""
        first = int(cell.keys["first"])
        return photos[first : first + self.part]

    def sources(self, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        """Return the inputs of each cell, by name; the folder is read once."""
        photos = self._photos()
        return {c.name: self.source(self.photos_of(c, photos)) for c in self.cells()}

    def _photos(self) -> list[Photo]:
        return read_photos(self.images)[: self.most]

    @staticmethod
    def tables(records: Sequence[Record]) -> list[Table]:
        """Return the table: all networks, one line per method."""
        found = results(records)
        rows: list[Row] = []
        for result in found:
            base = _reference(found, result)
            short = "" if _complete(found, result) else f" ({result.images} images)"
            cells = [_cell(result, name, base) for name in QUANTITIES]
            rows.append((result.network, result.method + short, *cells))
        columns = ("network", "method", *QUANTITIES.values())
        return [Table("maps", "Saliency methods on photographs", columns, tuple(rows))]


def measure(
    network: nn.Module,
    method: MapMethod,
    reference: MapMethod,
    image: Tensor,
    target: Tensor,
    mask: Tensor,
) -> dict[str, Tensor]:
    """Return curves `(N, K)` and single values `(N,)` of a method's maps, by name.

    A map is summed over channels. Pixels are ordered by that sum, equal ones at random; energy is
    its positive part, NaN where nothing is positive.

    Args:
        network: in evaluation mode.
        method: the method under test.
        reference: method for the agreement, the rank correlation of both methods' maps.
        image: prepared images `(N, C, H, W)`.
        target: class indices `(N,)`.
        mask: inside the box, `(N, H, W)`.
    """
    values = pixel_values(method(network, image, target))
    expected = pixel_values(reference(network, image, target))
    order = untied(values)
    removed = deletion_curve(network, image, target, order, counts=COUNTS).scores
    shown = insertion_curve(network, image, target, order, counts=COUNTS).scores
    energy = values.clamp(min=0)
    top = ranks(order) < TOP
    return {
        # With all pixels removed no pixel is shown: one curve's last point is the other's first.
        "deletion": torch.cat([removed, shown[:, :1]], 1),
        "insertion": torch.cat([shown, removed[:, :1]], 1),
        AGREEMENT: rank_correlation(values, expected),
        ENERGY_TOP: energy_inside(energy * top, mask),
        ENERGY_ALL: energy_inside(energy, mask),
        POINTING: pointing_game(values, mask),
        BOX: mask.flatten(1).double().mean(1),
    }


def untied(values: Tensor, seed: int = 0) -> Tensor:
    """Return values in the same order without ties, which are broken at random, by the seed.

    Otherwise the pixels of a map that is 0 in most places would be removed from the top row on.

    Examples:
        >>> untied(torch.tensor([[3.0, 1.0, 2.0]])).tolist()
        [[-0.0, -2.0, -1.0]]
    """
    flat = values.flatten(1)
    order = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    order = order.to(flat.device)
    place = torch.empty_like(flat)
    place[:, order] = -ranks(flat[:, order]).to(flat.dtype)
    return place.view(values.shape)


def columns(pixels: int) -> list[str]:
    """Return the names of the columns of a written line.

    Examples:
        >>> columns(224 * 224)[:3]
        ['deletion_0', 'deletion_100', 'deletion_500']
    """
    counts = [0, *(count for count in COUNTS if count < pixels), pixels]
    curves = [f"{kind}_{count}" for kind in ("deletion", "insertion") for count in counts]
    return [*curves, *SINGLE]


def lines(found: dict[str, Tensor]) -> list[str]:
    """Return one line per image: comma-separated numbers, nothing for NaN."""
    curves = torch.cat([found["deletion"], found["insertion"]], 1)
    single = torch.stack([found[name].to(curves.dtype) for name in SINGLE], 1)
    return [",".join(_number(v) for v in row) for row in torch.cat([curves, single], 1).tolist()]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.4f}".rstrip("0").rstrip(".")


def parsed(text: Sequence[str]) -> list[list[float]]:
    """Return the numbers of written lines."""
    return [[float(v) if v else float("nan") for v in line.split(",")] for line in text]


@dataclass(frozen=True)
class MethodResult:
    """All images of a method on a network: one vector per column."""

    network: str
    method: str
    values: dict[str, Floats]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(next(iter(self.values.values())))

    def curve(self, kind: str) -> tuple[list[int], Floats]:
        """Return the counts and the scores `(N, K)` of the `deletion` or `insertion`."""
        names = [name for name in self.values if name.startswith(f"{kind}_")]
        counts = [int(name.rpartition("_")[2]) for name in names]
        return counts, np.stack([self.values[name] for name in names], axis=1)

    def quantity(self, name: str) -> Floats:
        """Return a column, an area or the reduction at 1000 points, `(N,)`."""
        if name in (DELETION_AREA, INSERTION_AREA):
            counts, scores = self.curve(name.removesuffix("_area"))
            area = np.trapezoid(scores, counts, axis=1) / (counts[-1] - counts[0])
            return np.asarray(area)
        if name == REDUCTION:
            return self.values["deletion_0"] - self.values[f"deletion_{REDUCTION_COUNT}"]
        return self.values[name]


def results(records: Iterable[Record]) -> list[MethodResult]:
    """Join the records of each network and method, in the order of the methods.

    Incomplete records are joined too: see `images`.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["network"], record["method"]), []).append(record)
    found = []
    for (network, method), parts in groups.items():
        parts = sorted(parts, key=lambda part: int(part["first"]))
        rows = np.array([row for part in parts for row in parsed(part["rows"])])
        names = parts[0]["columns"].split(",")
        found.append(MethodResult(network, method, dict(zip(names, rows.T, strict=True))))
    return sorted(found, key=lambda r: (r.network, _place(r.method)))


def mean_of(values: Floats) -> Interval:
    """Return the mean of `(N,)` values over images with its 95 % interval, images resampled.

    Examples:
        >>> mean_of(np.array([1.0, 3.0, np.nan])).value
        2.0
    """
    return interval([of_mean(values, np.arange(len(values)))])


def _complete(found: Sequence[MethodResult], result: MethodResult) -> bool:
    return result.images == max(r.images for r in found)


def _reference(found: Sequence[MethodResult], result: MethodResult) -> MethodResult | None:
    """Return the reference method's result on the same network and images."""
    for other in found:
        if (other.network, other.method) == (result.network, REFERENCE) and other is not result:
            return other if other.images == result.images else None
    return None


def _cell(result: MethodResult, name: str, base: MethodResult | None) -> Value:
    values = result.quantity(name)
    if name == AGREEMENT:
        return Value(f"{np.nanmean(values):.2f}", float(np.nanmean(values)))
    differs = base is not None and mean_of(values - base.quantity(name)).excludes_zero
    shown = ranged(mean_of(values), mark="*" if differs else "")
    missing = int(np.isnan(values).sum())
    return Value(f"{shown.text} ({missing} undefined)", shown.value) if missing else shown


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)
