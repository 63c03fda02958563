"""LIDC's nodules: every method and network on five folds of patients.

Each patient is tested in one fold, by a network that has not seen that patient. An eighth of the
other patients is for validation and sets the threshold. All entries train the same number of epochs
and keep the last epoch's network. After the first seed the best PPI entry is chosen by validation
only; it and plain training then get the further seeds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError, require_known
from ppi_med.evaluation.bootstrap import Interval, Part, interval, of_mean
from ppi_med.evaluation.roc import delong_test, mean_of_folds
from ppi_med.experiments.cells import Cell, bundle_command, config_files, run_cell
from ppi_med.experiments.compare import PLAIN
from ppi_med.experiments.records import (
    Cases,
    Record,
    cases_of,
    pack_values,
    predictions_of,
    unpack_values,
)
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, number, ranged
from ppi_med.io import write_json
from ppi_med.naming import TEST_AUC, VAL_AUC

logger = logging.getLogger(__name__)

_DENSENET = {"block_config": [4, 4, 4], "growth_rate": 12, "init_features": 24}
ENTRIES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "random_mask": {"method": "random_mask"},
    "random_exchange": {"method": "random_exchange"},
    "random_context": {"method": "random_context"},
    "ppi_wbp_soft": {"method": "ppi_wbp_soft"},
    "ppi_wbp_adaptive": {"method": "ppi_wbp_adaptive"},
    "ppi_wbp_hard": {"method": "ppi_wbp_hard"},
    "ppi_wbp_box": {"method": "ppi_wbp_box"},
    "ppi_wbp_shared": {"method": "ppi_wbp_shared"},
    "ppi_wbp_context": {"method": "ppi_wbp_context"},
    "lotenet": {"architecture": "lotenet"},
    "densenet": {"architecture": "monai:DenseNet121", "architecture_options": _DENSENET},
}
"""Keys of the bundle by entry; the rest is plain training of the small CNN."""

PPI_ENTRIES = tuple(name for name in ENTRIES if name.startswith("ppi_"))
CEILING, FLOOR = "ceiling", "floor"

Dice = Callable[[Path, Mapping[str, Any]], Mapping[str, Mapping[str, float]]]
"""From a finished run's folder and overrides to the Dice of its masks, by name and case."""
Found = dict[tuple[int, int], Record]
"""Records of an entry by fold and seed."""


@dataclass(frozen=True)
class LidcNodules(Experiment):
    """The benchmark.

    Attributes:
        bundle: folder of the bundle lidc_ppi.
        data: folder of the nodules.
        work: folder for weights and outputs of the runs, one per cell.
        entries: names of `ENTRIES`.
        folds: folds to test on.
        seeds: the first for all entries, the others for plain training and the best PPI.
        max_epochs: epochs of each run; None: the bundle's.
        overrides: further ids of the bundle, for all cells.
        dice: measures the masks after each run; its result is kept case by case. Picklable for more
            than one worker. If it fails, the record says why.
    """

    bundle: Path
    data: Path
    work: Path
    entries: tuple[str, ...] = tuple(ENTRIES)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    max_epochs: int | None = None
    overrides: Mapping[str, Any] | None = None
    dice: Dice | None = None

    def __post_init__(self) -> None:
        for name in self.entries:
            require_known("method", name, ENTRIES)
        if not self.seeds or not self.folds:
            raise UsageError("Got no seed or no fold, expected at least one of each.")

    def cells(self) -> list[Cell]:
        """Return the cells of the first seed, fold by fold."""
        return [self._cell(e, fold, self.seeds[0]) for fold in self.folds for e in self.entries]

    def further(self, records: Sequence[Record]) -> list[Cell]:
        """Return the cells of the other seeds, for plain training and the best PPI."""
        best = best_ppi(records, self.seeds[0])
        entries = [e for e in (PLAIN, best) if e in self.entries]
        return [
            self._cell(e, fold, seed)
            for seed in self.seeds[1:]
            for fold in self.folds
            for e in entries
        ]

    def _cell(self, entry: str, fold: int, seed: int) -> Cell:
        last = "@max_epochs" if self.max_epochs is None else self.max_epochs
        overrides = {
            "dataset_dir": self.data.as_posix(),
            "method": PLAIN,
            **ENTRIES[entry],
            "test_fold": fold,
            "seed": seed,
            "tracking_uri": "none",
            # With some 90 patients in validation an early peak is luck.
            "select_from": last,
            **({} if self.max_epochs is None else {"max_epochs": self.max_epochs}),
            **(self.overrides or {}),
        }
        keys = {"entry": entry, "fold": fold, "seed": seed}
        return Cell(f"{entry}-fold{fold}-seed{seed}", keys, overrides)

    def sources(self, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        """Return the data, folds and command that the record of each cell must have."""
        from ppi_med.data.lidc.cases import case_hashes, require_cases

        require_cases(self.data)
        hashes = {fold: case_hashes(self.data, fold) for fold in self.folds}
        return {
            cell.name: {**hashes[cell.keys["fold"]], "command": self._command(cell)}
            for cell in [*self.cells(), *self.further(records)]
        }

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and test a cell; a stopped one continues from its checkpoint."""
        (config,) = config_files(self.bundle)
        begun = _begun(self.work / cell.name, config, cell)
        models = (self.work / cell.name / "models").as_posix()
        folder, record = run_cell(cell, [config], self.work, ckpt_dir=models, resume=begun)
        trained = json.loads((folder / "model.json").read_text(encoding="utf-8"))["trained"]
        record["epoch"] = record.pop("best_epoch")
        if begun:
            # Time before a stop is not counted.
            del record["seconds"], record["cpu_seconds"]
        predictions = predictions_of(folder / "test_predictions.csv")
        facts = ("architecture", "method", "data_hash", "split_hash")
        found = {**record, **{name: trained[name] for name in facts}, "predictions": predictions}
        overrides = {**cell.overrides, "bundle_root": self.bundle.as_posix()}
        masks, fault = _measured(self.dice, folder, overrides)
        names = cases_of(found).names
        return {
            **found,
            "command": self._command(cell),
            "masks": {name: pack_values(values, names) for name, values in masks.items()},
            **({"masks_failed": fault} if fault else {}),
        }

    def _command(self, cell: Cell) -> str:
        overrides = {**cell.overrides, "dataset_dir": "DATA"}
        return bundle_command([self.bundle / "train.json"], overrides)

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return the table of AUCs, then those of weak masks."""
        groups = _groups(records)
        plain = groups.get(PLAIN, {})
        rows = [_row(name, found, plain, repeats) for name, found in groups.items()]
        return [
            Table("lidc_nodules", "LIDC's nodules by method", _COLUMNS, tuple(rows)),
            *_mask_tables(groups, repeats),
        ]


_COLUMNS = (
    *("method", "runs", "AUC", "by fold", "difference to plain", "DeLong's p"),
    *("sensitivity", "specificity", "ECE", "minutes a run"),
)


def best_ppi(records: Iterable[Mapping[str, Any]], seed: int) -> str | None:
    """Return the PPI entry with the highest mean validation AUC over its folds of a seed."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record["entry"] in PPI_ENTRIES and record["seed"] == seed:
            found.setdefault(str(record["entry"]), []).append(float(record[VAL_AUC]))
    return max(found, key=lambda name: float(np.mean(found[name]))) if found else None


def _measured(
    dice: Dice | None, folder: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, float]], str]:
    """Return the Dice of the masks, or why there is no mask: the training is kept anyway."""
    if dice is None:
        return {}, ""
    try:
        return dict(dice(folder, overrides)), ""
    except Exception as error:  # any error of a map or a mask goes into the record
        logger.exception("%s: no masks", folder)
        return {}, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _begun(folder: Path, config: Path, cell: Cell) -> bool:
    """Return whether a run with the same configuration was stopped here; record that it begins."""
    wanted = {"config": config.read_text(encoding="utf-8"), "overrides": dict(cell.overrides)}
    note = folder / "begun.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == wanted:
        return (folder / "checkpoints").is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(note, wanted)
    return False


def _groups(records: Iterable[Record]) -> dict[str, Found]:
    """Return the records of each entry, in the benchmark's order."""
    groups: dict[str, Found] = {}
    for record in records:
        groups.setdefault(record["entry"], {})[int(record["fold"]), int(record["seed"])] = record
    order = [*(name for name in ENTRIES if name in groups), *sorted(set(groups) - set(ENTRIES))]
    return {name: dict(sorted(groups[name].items())) for name in order}


def _row(entry: str, found: Found, plain: Found, repeats: int) -> Row:
    own, base = _whole(found), _whole(plain)
    folds = sorted({fold for fold, _ in own})
    seeds = sorted({seed for _, seed in own})
    # AUCs are compared inside folds: scores of two networks have no common scale.
    by_fold = [
        np.mean([float(own[f, s].part(TEST_AUC).measure(None)) for s in seeds if (f, s) in own])
        for f in folds
    ]
    same = {f for f, _ in base} == set(folds)
    shared = [place for place in own if same and entry != PLAIN and place in base]
    gains = [own[p].difference(base[p], TEST_AUC, f"fold{p[0]}", p[1]) for p in shared]
    records = list(found.values())
    minutes = _mean(records, "seconds") / 60
    return (
        entry,
        f"{len(folds)} x {len(seeds)}",
        ranged(_interval(own, repeats)),
        " ".join(f"{value:.3f}" for value in by_fold),
        ranged(interval(gains, TEST_AUC, repeats=repeats), "+", 4) if gains else "",
        _p_value(own, base, shared) if gains else "",
        *(number(_mean(records, f"test/{n}")) for n in ("sensitivity", "specificity", "ece")),
        number(minutes, digits=1),
    )


def _interval(own: Mapping[tuple[int, int], Cases], repeats: int) -> Interval:
    parts = [cases.part(TEST_AUC, f"fold{fold}", seed) for (fold, seed), cases in own.items()]
    return interval(parts, TEST_AUC, repeats=repeats)


def _whole(found: Found) -> dict[tuple[int, int], Cases]:
    """Return the cases of the seeds that have all folds: others would weight patients unequally."""
    folds: dict[int, int] = {}
    for _, seed in found:
        folds[seed] = folds.get(seed, 0) + 1
    most = max(folds.values(), default=0)
    return {place: cases_of(record) for place, record in found.items() if folds[place[1]] == most}


def _p_value(
    own: Mapping[tuple[int, int], Cases],
    plain: Mapping[tuple[int, int], Cases],
    shared: Sequence[tuple[int, int]],
) -> str:
    """Return DeLong's test inside each fold, for the mean over folds, of the first common seed."""
    first = min(seed for _, seed in shared)
    tests = []
    for place in shared:
        if place[1] == first:
            ours, others = own[place].columns, plain[place].columns
            tests.append(delong_test(ours["label"], ours["score"], others["score"]))
    value = mean_of_folds(tests).p_value
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _mean(records: Sequence[Record], name: str) -> float:
    values = [float(record[name]) for record in records if name in record]
    return float(np.mean(values)) if values else float("nan")


class _Masks:
    """The Dice of an entry's test cases over all its folds and seeds, against one reference."""

    def __init__(self, kind: str, records: Sequence[Record]) -> None:
        cases = [(record, cases_of(record)) for record in records]
        self.keys = [(int(record["seed"]), name) for record, own in cases for name in own.names]
        self.units = [unit for _, own in cases for unit in own.units]
        values: dict[str, list[NDArray[np.float64]]] = {}
        for record in records:
            for figure, packed in record["masks"].items():
                where, name = figure.rsplit("/", 1)
                if where == kind:
                    values.setdefault(name, []).append(unpack_values(packed))
        whole = {name: parts for name, parts in values.items() if len(parts) == len(records)}
        self.values = {name: np.concatenate(parts) for name, parts in whole.items()}

    def mean(self, name: str) -> Part | None:
        return of_mean(self.values[name], self.units) if name in self.values else None

    def to(self, other: _Masks | None, name: str, base: str) -> Part | None:
        """Return the difference to a method of other masks on the same cases."""
        if other is None or name not in self.values or base not in other.values:
            return None
        theirs = dict(zip(other.keys, other.values[base].tolist(), strict=True))
        gaps = self.values[name] - np.array([theirs.get(key, np.nan) for key in self.keys])
        return None if np.isnan(gaps).all() else of_mean(gaps, self.units)


def _mask_tables(groups: Mapping[str, Found], repeats: int) -> list[Table]:
    """Return Dice of each entry's masks, union before majority and centred before shifted."""
    found = {
        name: records
        for name, group in groups.items()
        if (records := [record for record in group.values() if record.get("masks")])
    }
    kinds = dict.fromkeys(
        figure.rsplit("/", 1)[0]
        for records in found.values()
        for record in records
        for figure in record["masks"]
    )
    order = sorted(kinds, key=lambda kind: (not kind.startswith("union"), kind))
    return [_mask_table(kind, found, repeats) for kind in order]


def _mask_table(kind: str, groups: Mapping[str, Sequence[Record]], repeats: int) -> Table:
    entries = {name: _Masks(kind, group) for name, group in groups.items()}
    longest = max(entries.values(), key=lambda masks: len(masks.keys))
    bounds = (CEILING, FLOOR)
    methods = list(dict.fromkeys(m for e in entries.values() for m in e.values if m not in bounds))
    last = methods[-1]

    def shown(part: Part | None, sign: str = "") -> Any:
        return "" if part is None else ranged(interval([part], repeats=repeats), sign)

    rows: list[Row] = []
    for name, own in entries.items():
        plain = None if name == PLAIN else entries.get(PLAIN)
        means = [shown(own.mean(method)) for method in methods]
        gaps = (own.to(own, last, FLOOR), own.to(plain, last, last))
        rows.append((name, *means, *(shown(gap, "+") for gap in gaps)))
    reference, crops = kind.split("/")
    known = [name for name in bounds if name in longest.values]
    ends = ", ".join(f"{name} {shown(longest.mean(name)).text}" for name in known)
    return Table(
        f"masks_{reference}_{crops}",
        f"Dice against the {reference}, {crops} crops; {ends}:",
        ("method", *methods, f"{last}, above the floor", f"{last}, to plain"),
        tuple(rows),
    )
