"""Marks planted in real CT: whether a search of 2-D images finds them, and what is left of them.

Lung nodules of LIDC-IDRI, real pixels and labels; only the mark is painted. In training and
validation it agrees with the label, in the test it is there by chance. A short training, as the
search's own, is tested as it is, without what the search found, and on images without any mark.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppi_med.data.lidc.cases import nodules_of
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.records import Record
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, Value, number
from ppi_med.places import ImageStack, SearchSettings, search
from ppi_med.places.judge import verdict
from ppi_med.places.probe import make_network, scores_of, short_training

KINDS = ("logo", "letter", "corner", "jitter", "anywhere", "electrode", "ruler", "blur")
"""Two at a place; four that move; one thin and at a place; a smoothing of the whole image."""
NONE = "none"
AGREEMENTS = ("1.0", "0.9", "0.8")
_WINDOW = (-1000.0, 400.0)
_MAKERS = ("SIEMENS", "Philips", "TOSHIBA")
_PARTS = (0.5, 0.7)
_R = np.array(
    [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 1]], bool
)


@dataclass(frozen=True)
class Planted(Experiment):
    """The experiment.

    Attributes:
        nodules: folder with `nodules.csv` and its arrays, as `lidc_ppi` takes it.
        kinds: kinds of marks.
        agreements: agreements with the label in training and validation.
        seeds: seeds of the patients' parts, of the marks and of the search.
    """

    nodules: Path
    kinds: tuple[str, ...] = KINDS
    agreements: tuple[str, ...] = AGREEMENTS
    seeds: tuple[int, ...] = (0, 1, 2)

    def cells(self) -> list[Cell]:
        """Return the cells."""
        wanted = [(kind, a) for kind in self.kinds for a in self.agreements]
        return [
            Cell(f"{kind}-{agreement}-{seed}", {"kind": kind, "agreement": agreement, "seed": seed})
            for seed in self.seeds
            for kind, agreement in ((NONE, NONE), *wanted)
        ]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Paint, search, train shortly three times, test."""
        kind, seed = cell.keys["kind"], cell.keys["seed"]
        agreement = 1.0 if kind == NONE else float(cell.keys["agreement"])
        started = time.process_time()
        train, held, test = _parts(self.nodules, kind, agreement, seed)
        found = search(train, held, seed=seed)
        place = torch.from_numpy(found.place) if found.kind == "place" else None
        neutral = found.neutral if found.recommended_method == "neutral" else None
        clean = _parts(self.nodules, NONE, agreement, seed)

        def seen(stack: ImageStack) -> ImageStack:
            return stack if neutral is None else replace(stack, image=neutral(stack.image))

        return {
            "kind": kind,
            "shortcut": found.shortcut,
            "found": found.kind,
            "j_net": found.j_net,
            "j": max([0.0, *(p.j for p in found.places), *(m.j for m in found.marks)]),
            "plain": _tested(train, test, seed),
            "auto": _tested(seen(train), seen(test), seed, place),
            "ceiling": _tested(clean[0], clean[2], seed),
            "cpu_seconds": round(time.process_time() - started, 1),
        }

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 0) -> list[Table]:
        """Return how many were found, and the test AUC before and after."""
        rows: list[Row] = []
        for kind in (*KINDS, NONE):
            for agreement in (*AGREEMENTS, NONE):
                own = [r for r in records if (r["kind"], r["agreement"]) == (kind, agreement)]
                if not own:
                    continue
                alarms = [str(r["found"]) for r in own if r["shortcut"]]
                counted = f"{len(alarms)} of {len(own)}"
                values = [_over(own, name) for name in ("j", "plain", "auto", "ceiling")]
                rows.append((kind, agreement, counted, ", ".join(sorted(set(alarms))), *values))
        columns = ("mark", "agreement", "found", "as", "J", "plain", "auto", "ceiling")
        return [
            Table("planted", "Marks planted in real CT: found, and test AUC", columns, tuple(rows))
        ]


def _over(records: Sequence[Record], name: str) -> Value:
    values = [float(record[name]) for record in records]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return number(float(np.mean(values)), spread)


def _tested(
    train: ImageStack, test: ImageStack, seed: int, place: torch.Tensor | None = None
) -> float:
    """Return the test AUC of a short training; at a place its content is exchanged by a coin."""
    s = SearchSettings()
    network = make_network(None, train, seed)
    short_training(
        network,
        train,
        epochs=3 * s.epochs,
        slices=s.slices,
        batch_size=s.batch_size,
        steps=s.steps,
        lr=s.lr,
        seed=seed,
        place=place,
    )
    return verdict(test, scores_of(network, test.image)).auc


@lru_cache(maxsize=1)
def _nodules(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the patches `(N, 64, 64)`, grey levels 0 to 1; labels; and patients."""
    read = nodules_of(folder)
    kept = [k for k, row in enumerate(read.rows) if row["manufacturer"] in _MAKERS]
    low, high = _WINDOW
    edge = (read.hu.shape[1] - 64) // 2
    cut = read.hu[kept, edge : edge + 64, edge : edge + 64].astype(np.float32)
    label = np.array([int(int(read.rows[k]["n_readers"]) >= 3) for k in kept])
    patient = np.unique([read.rows[k]["patient_id"] for k in kept], return_inverse=True)[1]
    return np.clip((cut - low) / (high - low), 0, 1), label, patient


def _parts(folder: Path, kind: str, agreement: float, seed: int) -> tuple[ImageStack, ...]:
    """Return training, validation and test; in the test a mark is there by chance."""
    pixels, label, patient = _nodules(folder)
    rng = np.random.default_rng([seed, 7])
    rank = rng.permutation(patient.max() + 1)[patient] / (patient.max() + 1)
    part = np.digitize(rank, _PARTS)
    agrees = rng.random(len(label)) < np.where(part == 2, 0.5, agreement)
    marked = label == agrees
    images = pixels.copy()
    if kind != NONE:
        for k in np.flatnonzero(marked):
            _paint(images[k], kind, rng)
    stacks = []
    for number_of_part in range(3):
        own = torch.from_numpy(np.flatnonzero(part == number_of_part))
        index = torch.arange(len(own))
        stacks.append(
            ImageStack(
                torch.from_numpy(images)[own][:, None],
                torch.from_numpy(label)[own],
                index,
                torch.zeros_like(index),
                torch.from_numpy(patient)[own],
            )
        )
    return tuple(stacks)


def _paint(image: NDArray[np.float32], kind: str, rng: np.random.Generator) -> None:
    """Paint a mark into an image of 64 x 64 pixels, in place."""
    from scipy.ndimage import gaussian_filter

    if kind == "logo":
        image[3:9, 3:13] = 1.0
    elif kind == "ruler":
        image[2::6, -3:] = 1.0
    elif kind == "blur":
        image[...] = gaussian_filter(image, 1.0)
    elif kind == "electrode":
        row, column = rng.integers(6, 58), rng.integers(5, 12)
        rows, columns = np.mgrid[:64, :64]
        image[(rows - row) ** 2 + (columns - column) ** 2 < 12] = 1.0
    else:
        at: dict[str, Any] = {
            "letter": (4, 4),
            "corner": rng.choice([4, 54], 2),
            "jitter": rng.integers(2, 14, 2),
            "anywhere": rng.integers(0, 58, 2),
        }
        top, left = (int(value) for value in at[kind])
        image[top : top + 6, left : left + 4][_R] = 1.0
