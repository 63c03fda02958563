"""Whether each method's map depends on what the network learned: cascading randomisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppi_med.data.photos.layouts import read_photos
from ppi_med.data.photos.photo import Photo
from ppi_med.evaluation.measures import MapMethod, pixel_values
from ppi_med.evaluation.sanity import randomised, rank_correlation
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.map_inputs import (
    METHODS,
    load_photographs,
    map_method,
    preparation_of,
    pretrained,
)
from ppi_med.experiments.records import Record
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table

# Adebayo et al. compare absolute values too: signs can hide similarity.
KINDS = {"absolute": "abs_sum", "signed": "sum"}
# Limit of the mean absolute correlation once everything is random, see evaluation.sanity.
LIMIT = 0.5


@dataclass(frozen=True)
class Randomisation(Experiment):
    """The network to randomise, and the methods to compare.

    Attributes:
        network: name of a classifier.
        weights: file of its state dict, head included.
        images: folder of photographs with boxes.
        methods: names, see `METHODS`.
        most: photographs, the first of the folder.
        classes: classes of the network.
        side: photographs are cut to side x side.
        steps: number of blocks after which maps are compared, spread over all, with the first and
            the last.
        seed: seed of the new parameters.
    """

    network: str
    weights: Path
    images: Path
    methods: tuple[str, ...] = METHODS
    most: int = 4
    classes: int = 1000
    side: int = 224
    steps: int = 10
    seed: int = 0

    def cells(self) -> list[Cell]:
        """Return the cells, one per method."""
        return [
            Cell(f"{self.network}-{method}", {"network": self.network, "method": method})
            for method in self.methods
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Compare one method's maps while the network is randomised, from the output on."""
        preparation = preparation_of(self.network)
        network = pretrained(self.network, self.weights, self.classes)
        method = map_method(cell.keys["method"], preparation.bounds())
        photos = read_photos(self.images)[: self.most]
        batch = load_photographs(photos, self.side)
        image = preparation(batch.images).contiguous(memory_format=torch.channels_last)
        chosen = spread(blocks_of(network), self.steps)
        compared = compare(method, network, image, batch.labels, chosen, self.seed)
        steps = [
            {"layer": layer, **{kind: _numbers(values) for kind, values in found.items()}}
            for layer, found in compared
        ]
        return {**self.source(photos), "steps": steps}

    def source(self, photos: Sequence[Photo]) -> dict[str, Any]:
        """Return the inputs of every cell, as in its record."""
        names = f"{photos[0].name} .. {photos[-1].name}"
        return {"weights": self.weights.name, "images": names, "seed": self.seed}

    def sources(self, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        """Return what the record of each cell must say."""
        source = self.source(read_photos(self.images)[: self.most])
        return {cell.name: source for cell in self.cells()}

    @staticmethod
    def tables(records: Sequence[Record]) -> list[Table]:
        """Return a table per kind of values and network: a line per block, a column per method."""
        groups: dict[str, dict[str, Record]] = {}
        for record in records:
            groups.setdefault(record["network"], {})[record["method"]] = record
        return [_table(name, groups[name], kind) for kind in KINDS for name in sorted(groups)]


def compare(
    method: MapMethod,
    network: nn.Module,
    image: Tensor,
    target: Tensor,
    blocks: Sequence[str],
    seed: int = 0,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each block with the rank correlations `(N,)` once it and all later ones are random.

    A map that is constant has no order: NaN.
    """
    trained = method(network, image, target)
    names = blocks_of(network)
    for block in blocks:
        changed = randomised(network, names[: names.index(block) + 1], seed)
        maps = method(changed.eval(), image, target)
        found = {}
        for kind, reduce in KINDS.items():
            values = pixel_values(maps, reduce)
            correlation = rank_correlation(pixel_values(trained, reduce), values)
            flat = values.flatten(1)
            found[kind] = torch.where(flat.amax(1) > flat.amin(1), correlation, torch.nan)
        yield block, found


def spread(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many of the names, evenly, with the first and the last.

    Examples:
        >>> spread(["a", "b", "c", "d", "e"], 3)
        ['a', 'c', 'e']
    """
    places = torch.linspace(0, len(names) - 1, min(most, len(names))).round().int().tolist()
    return [names[place] for place in places]


def blocks_of(network: nn.Module) -> list[str]:
    """Return the names of a network's blocks with parameters, from the output to the image.

    A block is an entry of a chain of `Sequential`: a layer or several.

    Examples:
        >>> blocks_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2))))
        ['2.0', '0']
    """
    return list(_blocks("", network))[::-1]


def _blocks(prefix: str, module: nn.Module) -> Iterator[str]:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            yield from _blocks(f"{prefix}{name}.", child)
        elif any(True for _ in child.parameters()):
            yield f"{prefix}{name}"


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else round(value, 3) for value in values.tolist()]


def correlation(step: dict[str, Any], kind: str) -> float:
    """Return the mean size of the correlation over the images; NaN if no map has an order."""
    values = [abs(value) for value in step[kind] if value is not None]
    return float(np.mean(values)) if values else float("nan")


def passes(record: Record, kind: str = "absolute", limit: float = LIMIT) -> bool | None:
    """Say whether little of the map is left once all is random; None: its maps are constant."""
    left = correlation(record["steps"][-1], kind)
    return None if left != left else left <= limit


def _table(network: str, by_method: dict[str, Record], kind: str) -> Table:
    methods = [method for method in METHODS if method in by_method]
    rows: list[Row] = [
        (step["layer"], *(_cell(by_method[m]["steps"][number], kind) for m in methods))
        for number, step in enumerate(by_method[methods[0]]["steps"])
    ]
    verdicts = {True: "yes", False: "**no**", None: "no map"}
    last = (verdicts[passes(by_method[m], kind)] for m in methods)
    rows.append((f"passes (all random: at most {LIMIT})", *last))
    return Table(
        f"randomisation_{network}_{kind}",
        f"{network}: rank correlation of {kind} values while the network is randomised",
        (f"{network}, {kind} values: random from the output to", *methods),
        tuple(rows),
    )


def _cell(step: dict[str, Any], kind: str) -> str:
    mean = correlation(step, kind)
    constant = sum(value is None for value in step[kind])
    note = f" ({constant} const.)" if constant and mean == mean else ""
    return "const." if mean != mean else f"{mean:.2f}{note}"
