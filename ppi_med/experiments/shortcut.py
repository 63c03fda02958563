"""Whether a method unlearns a site's artefact: the phantom, the cells and the table.

A site's artefact agrees with the label in all training and validation subjects; in the test
subjects of the same site it agrees by chance (0.5). A network that follows it is perfect in
validation and at chance in the test. The same data without any artefact in training show what a
method costs if there is no shortcut, and, for plain training, the ceiling. Validation is in-site
and sees the artefact, as a user's would; the test is used once, at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppi_med.errors import require_known
from ppi_med.experiments.cells import Cell, config_files, require_methods, run_cell
from ppi_med.experiments.compare import PLAIN, Entry, entries
from ppi_med.experiments.few_labels import few_columns, few_label_aucs, few_values
from ppi_med.experiments.records import Record, in_order, predictions_of
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, Value, number, ranged
from ppi_med.naming import TEST_AUC, VAL_AUC

if TYPE_CHECKING:
    from ppi_med.phantoms.oct.spec import OctPhantomSpec

# A site's artefact stays at its place, so training does not move the images.
AT_ITS_PLACE = {
    "augment#shift_rows": 0.0,
    "augment#shift_columns": 0.0,
    "augment#rotate_degrees": 0.0,
}
TRAININGS = ("artefact", "clean")
_OTHER_EYES = 100_000
DEFAULT_METHODS = (
    "plain",
    "random_mask",
    "random_exchange",
    "ppi_wbp_soft",
    "ppi_wbp_adaptive",
    "ppi_wbp_hard",
    "ppi_wbp_box",
    "ppi_wbp_shared",
    "ppi_wbp_shared_alternate",
    "ppi_wbp_shared_every2",
)
_COLUMNS = (
    "method",
    "trained with the artefact",
    "gain over plain",
    "in-site validation",
    "trained without it",
    "difference to plain",
)


def last_epoch(epochs: int) -> dict[str, Any]:
    """Return overrides that keep the last epoch's network, for every method.

    In-site validation is perfect on the artefact: choosing an epoch by it would choose the
    artefact.
    """
    return {
        "max_epochs": epochs,
        "lr_step": round(0.7 * epochs),
        "patience": epochs,
        "validate#handlers#0#start_epoch": epochs,
    }


def unlabelled_for(method: str, folder: Path | str) -> dict[str, str]:
    """Return the override that shows a cell's method another site's images without labels."""
    return {"unlabelled": Path(folder).as_posix()} if method == "d_bat" else {}


def other_eyes(spec: OctPhantomSpec) -> OctPhantomSpec:
    """Return a phantom of 100 eyes that are in no other; its mark goes with the label by chance.

    Args:
        spec: phantom of the same sites, whose test subjects have the mark by chance too.
    """
    return replace(
        spec,
        subjects=100,
        visits=(1, 1),
        agreement=0.5,
        seed=_OTHER_EYES + spec.seed,
        fractions=(0.8, 0.1, 0.1),
    )


@dataclass(frozen=True)
class Shortcut(Experiment):
    """The experiment.

    Attributes:
        bundle: folder of the GA bundle.
        data: folder for the two phantoms.
        work: folder for checkpoints and outputs of the runs.
        methods: names of `ppi_med.handlers.methods.METHODS`.
        seeds: seeds of the runs.
        subjects: subjects of the phantom.
        phantom_seed: seed of the phantom; methods were developed on another.
        max_epochs: epochs of each run.
        trainings: `artefact`, `clean` or both.
    """

    bundle: Path
    data: Path
    work: Path
    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    subjects: int = 240
    phantom_seed: int = 2028
    max_epochs: int = 60
    trainings: tuple[str, ...] = TRAININGS

    def cells(self) -> list[Cell]:
        """Return the cells, seed by seed, so that an early stop leaves complete tables."""
        require_methods(self.methods)
        return [
            self._cell(training, method, seed)
            for seed in self.seeds
            for training in self.trainings
            for method in self.methods
        ]

    def _cell(self, training: str, method: str, seed: int) -> Cell:
        overrides = {
            "dataset_dir": (self.data / training).as_posix(),
            "method": method,
            "seed": seed,
            "tracking_uri": "none",  # MONAI's command line cannot pass null
            **unlabelled_for(method, self.data / "unlabelled"),
            **AT_ITS_PLACE,
            **last_epoch(self.max_epochs),
        }
        keys = {"training": training, "method": method, "seed": seed}
        return Cell(f"{training}-{method}-seed{seed}", keys, overrides)

    def prepare(self, workers: int) -> None:
        """Make or complete the phantoms."""
        from ppi_med.phantoms.oct.spec import SITES, OctPhantomSpec
        from ppi_med.phantoms.oct.write import make_oct_phantom

        for training in self.trainings:
            spec = OctPhantomSpec(
                sites=SITES[:1],
                subjects=self.subjects,
                agreement=1.0 if training == "artefact" else None,
                test_agreement=0.5,
                seed=self.phantom_seed,
                fractions=(0.5, 0.15, 0.35),
            )
            make_oct_phantom(spec, self.data / training, workers=workers)
        if "d_bat" in self.methods:
            make_oct_phantom(other_eyes(spec), self.data / "unlabelled", workers=workers)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and test a cell."""
        folder, record = run_cell(cell, config_files(self.bundle), self.work)
        return {**record, "predictions": predictions_of(folder / "test_predictions.csv")}

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return the table: one line per method."""
        records = in_order(records, DEFAULT_METHODS)
        found = {
            training: {
                entry.method: entry
                for entry in entries(
                    [record for record in records if record["training"] == training],
                    TEST_AUC,
                    repeats,
                )
            }
            for training in TRAININGS
        }
        validation: dict[str, list[float]] = {}
        for record in records:
            if record["training"] == TRAININGS[0]:
                validation.setdefault(record["method"], []).append(float(record[VAL_AUC]))
        rows: list[Row] = [
            (
                method,
                *_shown(found["artefact"].get(method)),
                number(float(np.mean(validation[method]))) if method in validation else "",
                *_shown(found["clean"].get(method)),
            )
            for method in dict.fromkeys(record["method"] for record in records)
        ]
        return [Table("shortcut", "A site's artefact, unlearned: test AUC", _COLUMNS, tuple(rows))]


MARKS = ("logo", "band", "line", "ticks")
"""The marks of the phantom's four sites, in the order of the sites."""
FURTHER_MARKS = ("retina", "corner", "jitter", "speckle", "gain", "watermark")
"""Further artefacts, all at the first site: over the eye, moving, without a place."""
LATER_MARKS = (
    *("border", "scan_line", "every_scan", "some_scans"),
    *("noise", "compression", "vignette", "mirror"),
)
"""The same; drawn after an earlier state of the search had been fixed."""
AGREEMENTS = ("1.0", "0.9", "0.8", "0.5", "none")
MARK_METHODS = (
    "plain",
    "auto",
    "ppi_wbp_place_coin",
    "ppi_wbp_place_blind",
    "ppi_wbp_place",
    "ppi_wbp_shared",
)
_CEILING = "ceiling"


@dataclass(frozen=True)
class Marks(Experiment):
    """Each mark alone: how much of the gap between plain training and the ceiling is closed.

    The ceiling is plain training without a mark (agreement `none`), of the same mark's site and
    the same seed. Plain trainings are in the same run, so that costs are compared to them. The
    further artefacts share the first site, and so its ceiling.

    Attributes:
        bundle: folder of the GA bundle.
        data: folder for the phantoms.
        work: folder for checkpoints and outputs of the runs.
        methods: names of `ppi_med.handlers.methods.METHODS`.
        seeds: seeds of the runs.
        marks: some of `MARKS`, `FURTHER_MARKS` and `LATER_MARKS`.
        agreements: agreements with the label in training and validation; `none`: no mark there.
        subjects: subjects of each phantom.
        phantom_seed: methods were developed on others.
        max_epochs: epochs of each run.
    """

    bundle: Path
    data: Path
    work: Path
    methods: tuple[str, ...] = MARK_METHODS
    seeds: tuple[int, ...] = (0,)
    marks: tuple[str, ...] = MARKS
    agreements: tuple[str, ...] = AGREEMENTS
    subjects: int = 240
    phantom_seed: int = 2031
    max_epochs: int = 30

    def __post_init__(self) -> None:
        for name, given, known in (
            ("mark", self.marks, (*MARKS, *FURTHER_MARKS, *LATER_MARKS)),
            ("agreement", self.agreements, AGREEMENTS),
        ):
            for one in given:
                require_known(name, one, known)

    def cells(self) -> list[Cell]:
        """Return the cells in an order in which an early stop leaves complete tables."""
        require_methods(self.methods)
        return [
            self._cell(mark, agreement, method, seed)
            for seed in self.seeds
            for method in self.methods
            for agreement in self.agreements
            for mark in self.marks
            if agreement != "none" or mark in MARKS
        ]

    def _cell(self, mark: str, agreement: str, method: str, seed: int) -> Cell:
        overrides = {
            "dataset_dir": (self.data / f"{mark}-{agreement}").as_posix(),
            "method": method,
            "seed": seed,
            "tracking_uri": "none",
            # Only the last epoch counts, so nothing else is computed.
            "val_interval": self.max_epochs,
            "test#handlers#2#_disabled_": True,
            **unlabelled_for(method, self.data / f"{mark}-few"),
            **AT_ITS_PLACE,
            **last_epoch(self.max_epochs),
        }
        keys = {"mark": mark, "agreement": agreement, "method": method, "seed": seed}
        return Cell(f"{mark}-{agreement}-{method}-seed{seed}", keys, overrides)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Make the cell's phantom if it is missing, train and test."""
        from ppi_med.phantoms.oct.spec import SITES, OctPhantomSpec
        from ppi_med.phantoms.oct.write import make_oct_phantom

        mark, agreement = cell.keys["mark"], cell.keys["agreement"]
        own = tuple(site for site in SITES if site.artefact == mark)
        sites = own or (replace(SITES[0], artefact=mark),)
        spec = OctPhantomSpec(
            sites=sites,
            subjects=self.subjects,
            agreement=None if agreement == "none" else float(agreement),
            test_agreement=0.5,
            seed=self.phantom_seed,
            fractions=(0.5, 0.15, 0.35),
        )
        make_oct_phantom(spec, self.data / f"{mark}-{agreement}")
        # What somebody could label at another site, or show to d_bat without labels.
        make_oct_phantom(other_eyes(spec), self.data / f"{mark}-few")
        files = config_files(self.bundle)
        folder, record = run_cell(cell, files, self.work)
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        place = facts.get("trained", {}).get("place", {})
        found = {f"place/{name}": place[name] for name in ("kind", "j_net", "j") if name in place}
        weights, labelled = folder / "model.pt", self.data / f"{mark}-few"
        return {
            **record,
            **found,
            **few_label_aucs(files, cell.overrides, weights, labelled),
            "phantom_seed": self.phantom_seed,
            "predictions": predictions_of(folder / "test_predictions.csv"),
        }

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return test AUC of each method at each agreement, with its cost, and the gap closed."""
        records = in_order(records, MARK_METHODS)
        ceiling = _by_seed(records, "none", PLAIN)
        for (mark, seed), record in list(ceiling.items()):
            if mark == MARKS[0]:
                ceiling |= {(further, seed): record for further in (*FURTHER_MARKS, *LATER_MARKS)}
        return [
            table
            for agreement in AGREEMENTS
            for name, marks in (("", MARKS), ("further", FURTHER_MARKS), ("later", LATER_MARKS))
            for table in _mark_table(records, agreement, name, marks, ceiling)
        ]


_Found = dict[tuple[str, int], Record]


def _by_seed(records: Sequence[Record], agreement: str, method: str) -> _Found:
    return {
        (str(record["mark"]), int(record["seed"])): record
        for record in records
        if record["agreement"] == agreement and record["method"] == method
    }


def _mark_table(
    records: Sequence[Record], agreement: str, name: str, marks: tuple[str, ...], ceiling: _Found
) -> list[Table]:
    own = [r for r in records if r["agreement"] == agreement and r["mark"] in marks]
    if not own:
        return []
    rows = [
        _mark_row(method, _by_seed(own, agreement, method), own, agreement, marks, ceiling)
        for method in dict.fromkeys(str(record["method"]) for record in own)
    ]
    few = few_columns(own)
    rows = [(*r, *few_values([one for one in own if one["method"] == r[0]], few)) for r in rows]
    if agreement != "none":
        rows.append(
            (_CEILING, *[_auc_of(ceiling, mark) for mark in marks], "", "", *("",) * len(few))
        )
    shown = "no mark" if agreement == "none" else f"agreement {agreement}"
    columns = (f"method, {shown}", *marks, "gap closed", "cost in plain trainings", *few)
    kind = f"{name} artefact" if name else "mark"
    title = f"Each {kind} alone, {shown}: test AUC"
    return [Table("_".join(filter(None, ("marks", name, agreement))), title, columns, tuple(rows))]


def _auc_of(found: _Found, mark: str) -> str | Value:
    values = [float(record[TEST_AUC]) for (own, _), record in found.items() if own == mark]
    if not values:
        return ""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    value = number(float(np.mean(values)), deviation)
    return Value(f"{value.text} (n={len(values)})", value.value)


def _mark_row(
    method: str,
    found: _Found,
    own: Sequence[Record],
    agreement: str,
    marks: tuple[str, ...],
    ceiling: _Found,
) -> Row:
    plain = _by_seed(own, agreement, PLAIN)
    closed = ""
    if method != PLAIN and agreement != "none":
        closed = _closed(found, plain, ceiling, marks)
    costs = [
        float(found[key]["cpu_seconds"]) / float(plain[key]["cpu_seconds"])
        for key in found
        if key in plain
    ]
    cost = number(float(np.mean(costs)), digits=2) if costs else ""
    return (method, *[_auc_of(found, mark) for mark in marks], closed, cost)


def _closed(found: _Found, plain: _Found, ceiling: _Found, marks: tuple[str, ...]) -> str:
    """Return which part of the gap is closed over all marks, and of each in brackets."""
    shared = [key for key in found if key in plain and key in ceiling]
    parts: dict[str, list[float]] = {mark: [0.0, 0.0] for mark, _ in shared}
    for key in shared:
        base = float(plain[key][TEST_AUC])
        parts[key[0]][0] += float(found[key][TEST_AUC]) - base
        parts[key[0]][1] += float(ceiling[key][TEST_AUC]) - base
    gap = sum(whole for _, whole in parts.values())
    if gap <= 0:
        return ""
    own = [parts[mark] for mark in marks if mark in parts]
    each = ", ".join(f"{gained / whole:.0%}" if whole > 0 else "-" for gained, whole in own)
    total = f"{sum(gained for gained, _ in own) / gap:.0%}"
    return f"{total} ({each})" if len(own) > 1 else total


def _shown(entry: Entry | None) -> tuple[str | Value, str | Value]:
    if entry is None:
        return "", ""
    return entry.shown(), "" if entry.method == PLAIN else ranged(entry.gain, "+")
