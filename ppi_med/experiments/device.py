"""Whether a method looks past the device: two real sets whose class agrees with the device.

Children's chest X-rays: the normals come from one device, nearly all pneumonias from others; a few
pneumonias from the normals' device are kept for the test. Test 1 is normal against pneumonia of the
*same* device, where the device is no clue; test 2 is normal against pneumonia of other devices, as
in a validation. The ceiling is plain training on as many images, half of whose pneumonias are from
the normals' device.

White blood cells: lobed nuclei of one laboratory against single nuclei of another. The tests are
lobed against single within either laboratory; the ceiling is plain training on as many cells of
each class, drawn from both.

X-rays (`images.zip`; `images.csv` with row, group, label, marker; `splits.json` with lists
of rows) are those of Kermany et al. (doi 10.17632/rscbjbr9sj), the markers read by eye. Cells
(`cells.zip`; `cells.csv` with row, group, lobed; `splits.json`) are those of Zheng et al.
(doi 10.1016/j.micron.2018.01.010).
"""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppi_med.data.splits import PARTS
from ppi_med.errors import MissingFileError
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cells import Cell, config_files, require_methods, run_cell
from ppi_med.experiments.compare import PLAIN, Entry, entries
from ppi_med.experiments.few_labels import few_columns, few_label_aucs, few_values
from ppi_med.experiments.records import Record, cases_of, in_order
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, ranged
from ppi_med.naming import TEST_AUC

DEFAULT_METHODS = (PLAIN, "auto", "neutral", "random_exchange", "ppi_wbp_context")
CEILING = "plain, both devices"


@dataclass(frozen=True)
class _Benchmark:
    """A set: its files, lists and tests, and their names in the table.

    Attributes:
        image: path in the archive, formatted with the row.
        lists: training -> name of its list of rows.
        sites: sites of the test -> name of its list of rows.
        tests: name -> the sites that it consists of.
    """

    archive: str
    table: str
    label: str
    classes: tuple[str, str]
    image: str
    lists: Mapping[str, str]
    sites: Mapping[str, str]
    tests: Mapping[str, tuple[str, ...]]
    overrides: Mapping[str, Any] = field(default_factory=dict)


_BENCHMARKS = (
    _Benchmark(
        archive="images.zip",
        table="images.csv",
        label="label",
        classes=("normal", "pneumonia"),
        image="{:04d}.jpg",
        lists={"train": "train_small", "ceiling": "train_small_half"},
        sites={site: f"test_{site}" for site in ("normal", "beside", "elsewhere")},
        tests={"same device": ("normal", "beside"), "other devices": ("normal", "elsewhere")},
    ),
    _Benchmark(
        archive="cells.zip",
        table="cells.csv",
        label="lobed",
        classes=("single", "lobed"),
        image="image/{:03d}.png",
        lists={"train": "train_aligned", "ceiling": "train_both"},
        sites={"lab1": "test_lab1", "lab2": "test_lab2"},
        tests={"laboratory 1": ("lab1",), "laboratory 2": ("lab2",)},
        overrides={"channels": 3},
    ),
)
_SMALLEST_GAP = 0.01
_VALIDATION = 5
"""If a set has no list for validation, every fifth group of a training list is kept for it."""


@dataclass(frozen=True)
class Devices(Experiment):
    """The experiment.

    Attributes:
        bundle: folder of the bundle of X-rays and other small images.
        source: folder of the three files of one set.
        data: folder for the unpacked images and a datalist for each split.
        work: folder for checkpoints and outputs of the runs.
        methods: names of `ppi_med.handlers.methods.METHODS`.
        splits: splits of the source.
        runs: trainings of each method on each split, with the seeds split, 100 + split, ...
    """

    bundle: Path
    source: Path
    data: Path
    work: Path
    methods: tuple[str, ...] = DEFAULT_METHODS
    splits: tuple[int, ...] = (0, 1, 2)
    runs: int = 1

    def cells(self) -> list[Cell]:
        """Return the cells, run by run, split by split: plain on both lists, then the methods."""
        require_methods(self.methods)
        wanted = [("ceiling", PLAIN), *(("train", method) for method in self.methods)]
        return [
            self._cell(split, run, *one)
            for run in range(self.runs)
            for split in self.splits
            for one in wanted
        ]

    def _cell(self, split: int, run: int, training: str, method: str) -> Cell:
        folder, seed = self.data / f"split{split}-{training}", 100 * run + split
        overrides = {"dataset_dir": folder.as_posix(), "method": method, "seed": seed}
        overrides |= self._benchmark().overrides
        shown = CEILING if training == "ceiling" else method
        return Cell(
            f"{training}-{method}-split{split}" + (f"-run{run}" if run else ""),
            {"training": training, "method": shown, "split": split, "seed": seed},
            {**overrides, "tracking_uri": "none"},
        )

    def prepare(self, workers: int) -> None:
        """Unpack the images and write the datalists.

        Raises:
            MissingFileError: if the source does not exist.
        """
        from ppi_med.data.datalist import write_datalist

        own = self._benchmark()
        files = [self.source / name for name in (own.archive, own.table, "splits.json")]
        for file in files:
            if not file.is_file():
                raise MissingFileError(f"There is no {file}: name its folder with --source.")
        with files[1].open(newline="", encoding="utf-8") as table:
            items = {int(row["row"]): _item(row, own) for row in csv.DictReader(table)}
        (self.data / "images").mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(files[0]) as archive:
            for row, item in items.items():
                target = self.data / "images" / Path(item["image"]).name
                if not target.is_file():
                    target.write_bytes(archive.read(own.image.format(row)))
        splits = json.loads(files[2].read_text(encoding="utf-8"))
        for split in self.splits:
            lists = splits[str(split)]
            for training, name in own.lists.items():
                parts = _train_and_validation([items[row] for row in lists[name]])
                if "val" in lists:
                    parts = [parts[0] + parts[1], [items[row] for row in lists["val"]]]
                test = [
                    {**items[row], "site": site}
                    for site, rows in own.sites.items()
                    for row in lists[rows]
                ]
                folder = self.data / f"split{split}-{training}"
                folder.mkdir(exist_ok=True)
                named = dict(zip(PARTS, (*parts, test), strict=True))
                write_datalist(folder / "datalist.json", named)

    def _benchmark(self) -> _Benchmark:
        """Return the set in the source; the X-rays if there is none."""
        found = [one for one in _BENCHMARKS if (self.source / one.table).is_file()]
        return (found or list(_BENCHMARKS))[0]

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and test a cell."""
        files, first = config_files(self.bundle), next(iter(self._benchmark().tests.values()))
        folder, record = run_cell(cell, files, self.work)
        # Where both devices have both classes: what somebody could label.
        few = self.data / f"split{cell.keys['split']}-ceiling"
        record |= few_label_aucs(files, cell.overrides, folder / "model.pt", few, first)
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        found = facts.get("trained", {}).get("place", {}).get("reason", "")
        datalist = Path(cell.overrides["dataset_dir"]) / "datalist.json"
        items = json.loads(datalist.read_text(encoding="utf-8"))["test"]
        patients = {item["volume_id"]: item["subject"] for item in items}
        with (folder / "test_predictions.csv").open(newline="", encoding="utf-8") as table:
            rows = sorted(csv.DictReader(table), key=lambda row: row["volume_id"])
        predictions = {
            "volume_id": [row["volume_id"] for row in rows],
            "subject": [patients[row["volume_id"]] for row in rows],
            "site": [row["site"] for row in rows],
            "label": [int(row["label"]) for row in rows],
            "score": [_of_label_1(row) for row in rows],
        }
        return {**record, "found": found, "predictions": predictions}

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return the AUC of both tests for each method, with its gain over plain training."""
        records = in_order(records, (*DEFAULT_METHODS, CEILING))
        sites = {site for record in records for site in cases_of(record).sites}
        return [
            _table(one.tests, records, repeats)
            for one in _BENCHMARKS
            if records and sites == set(one.sites)
        ]


def _table(tests: Mapping[str, tuple[str, ...]], records: Sequence[Record], repeats: int) -> Table:
    found = {
        test: entries(
            [_of_test(record, sites) for record in records], TEST_AUC, repeats, stratum="split"
        )
        for test, sites in tests.items()
    }
    rows: list[Row] = []
    few = few_columns(records)
    for entry in zip(*found.values(), strict=True):
        shown: list[Any] = [entry[0].method]
        for one, test in zip(entry, tests, strict=True):
            shown += [one.shown(), ranged(one.gain, "+"), _closed(one, found[test])]
        own = [record for record in records if record["method"] == entry[0].method]
        rows.append((*shown, *few_values(own, few)))
    columns = [f"{test}{what}" for test in tests for what in ("", ", gain over plain", ", closed")]
    columns += [f"{next(iter(tests))}, {name}" for name in few]
    title = f"Past the device: test AUC, {' and '.join(tests)}"
    return Table("devices", title, ("method", *columns), tuple(rows))


def _train_and_validation(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the items without and with every fifth group, class by class."""
    kept: set[tuple[int, str]] = set()
    for label in (0, 1):
        groups = sorted({item["subject"] for item in items if item["label"] == label}, key=_digest)
        kept |= {(label, group) for group in groups[::_VALIDATION]}
    held = {group for _, group in kept}
    return [[i for i in items if (i["subject"] in held) == part] for part in (False, True)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _item(row: dict[str, str], own: _Benchmark) -> dict[str, Any]:
    name = Path(own.image.format(int(row["row"]))).name
    label = int(row[own.label])
    return {
        "image": f"../images/{name}",
        "label": label,
        "class_name": own.classes[label],
        "volume_id": Path(name).stem,
        "subject": row["group"],
    }


def _of_label_1(row: dict[str, str]) -> float:
    """Return the probability of label 1 from a row with that of its own label."""
    score = float(row["score"])
    return round(score if row["label"] == "1" else 1 - score, 6)


def _of_test(record: Record, sites: tuple[str, ...]) -> dict[str, Any]:
    """Return a record of the cases of some sites alone."""
    cases = cases_of(record)
    kept = [k for k, site in enumerate(cases.sites) if site in sites]
    columns = {name: [values[k] for k in kept] for name, values in cases.columns.items()}
    predictions = {
        "volume_id": [cases.names[k] for k in kept],
        "subject": [cases.units[k] for k in kept],
        **columns,
    }
    one = {"split": record["seed"], **record, "cases": predictions}
    return {**one, TEST_AUC: float(AUC(predictions["label"], predictions["score"]))}


def _closed(entry: Entry, found: Sequence[Entry]) -> str:
    """Return the part of the gap between plain training and the ceiling that a method closes."""
    means = {one.method: one.mean for one in found}
    if entry.method in (PLAIN, CEILING) or not {PLAIN, CEILING} <= means.keys():
        return ""
    gap = means[CEILING] - means[PLAIN]
    return f"{(entry.mean - means[PLAIN]) / gap:.0%}" if gap > _SMALLEST_GAP else ""
