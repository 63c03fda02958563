"""Does a method look past the device? Children's chest X-rays whose class goes with the device.

The normals come from one device, nearly all pneumonias from others; a few pneumonias from the
normals' device are kept for the test. Test 1 is normal against pneumonia of the *same* device,
where the device tells nothing; test 2 is normal against pneumonia of other devices, what a
validation shows. The ceiling is plain training on as many images, half of whose pneumonias are from
the normals' device.

The data (`images.zip`; `images.csv` with row, group, label, marker; `splits.json` with lists
of rows) are those of Kermany et al. (doi 10.17632/rscbjbr9sj), the markers read by eye.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.errors import MissingFileError
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cells import Cell, config_files, run_cell
from ppi_med.experiments.compare import PLAIN, Entry, entries
from ppi_med.experiments.records import Record, cases_of, in_order
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.table import Row, Table, ranged
from ppi_med.naming import TEST_AUC

DEFAULT_METHODS = (PLAIN, "auto", "neutral", "random_exchange", "ppi_wbp_context")
CEILING = "plain, both devices"
_LISTS = {"train": "train_small", "ceiling": "train_small_half"}
_TESTS = {"same device": ("normal", "beside"), "other devices": ("normal", "elsewhere")}


@dataclass(frozen=True)
class Devices(Experiment):
    """The experiment.

    Attributes:
        bundle: folder of the bundle for grey images.
        source: folder of the three files.
        data: folder for the unpacked images and a datalist for each split.
        work: folder for checkpoints and outputs of the runs.
        methods: names of `ppi_med.handlers.methods.METHODS`.
        splits: of the source.
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
        shown = CEILING if training == "ceiling" else method
        return Cell(
            f"{training}-{method}-split{split}" + (f"-run{run}" if run else ""),
            {"training": training, "method": shown, "split": split, "seed": seed},
            {**overrides, "tracking_uri": "none"},
        )

    def prepare(self, workers: int) -> None:
        """Unpack the images and write the datalists.

        Raises:
            MissingFileError: where the source is not there.
        """
        from ppi_med.data.datalist import write_datalist

        files = [self.source / name for name in ("images.zip", "images.csv", "splits.json")]
        for file in files:
            if not file.is_file():
                raise MissingFileError(f"There is no {file}: name its folder with --source.")
        with files[1].open(newline="", encoding="utf-8") as table:
            rows = {int(row["row"]): row for row in csv.DictReader(table)}
        images = self.data / "images"
        images.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(files[0]) as archive:
            for row in rows:
                target = images / f"{row:04d}.jpg"
                if not target.is_file():
                    target.write_bytes(archive.read(target.name))
        splits = json.loads(files[2].read_text(encoding="utf-8"))
        for split in self.splits:
            lists = splits[str(split)]
            for training, name in _LISTS.items():
                parts = {
                    "training": [_item(rows[row]) for row in lists[name]],
                    "validation": [_item(rows[row]) for row in lists["val"]],
                    "test": [
                        {**_item(rows[row]), "site": site}
                        for site in ("normal", "beside", "elsewhere")
                        for row in lists[f"test_{site}"]
                    ],
                }
                folder = self.data / f"split{split}-{training}"
                folder.mkdir(exist_ok=True)
                write_datalist(folder / "datalist.json", parts)

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train and test a cell."""
        folder, record = run_cell(cell, config_files(self.bundle), self.work)
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
            "score": [_of_pneumonia(row) for row in rows],
        }
        return {**record, "found": found, "predictions": predictions}

    @staticmethod
    def tables(records: Sequence[Record], repeats: int = 2000) -> list[Table]:
        """Return the AUC of both tests for each method, with its gain over plain training."""
        records = in_order(records, (*DEFAULT_METHODS, CEILING))
        found = {
            test: entries(
                [_of_test(record, sites) for record in records], TEST_AUC, repeats, stratum="split"
            )
            for test, sites in _TESTS.items()
        }
        rows: list[Row] = []
        for entry in zip(*found.values(), strict=True):
            shown: list[Any] = [entry[0].method]
            for one in entry:
                shown += [one.shown(), ranged(one.gain, "+")]
            rows.append((*shown, _closed(entry[0], found["same device"])))
        columns = [f"{test}{what}" for test in _TESTS for what in ("", ", gain over plain")]
        return [
            Table(
                "devices",
                "AUC on chest X-rays of the normals' device and of other devices",
                ("method", *columns, "gap closed"),
                tuple(rows),
            )
        ]


def _item(row: dict[str, str]) -> dict[str, Any]:
    name = f"{int(row['row']):04d}"
    label = int(row["label"])
    return {
        "image": f"../images/{name}.jpg",
        "label": label,
        "class_name": ("normal", "pneumonia")[label],
        "volume_id": name,
        "subject": row["group"],
    }


def _of_pneumonia(row: dict[str, str]) -> float:
    """Return the probability of pneumonia, where a row has that of the label."""
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
    """Return which part of the gap between plain training and the ceiling a method closes."""
    means = {one.method: one.mean for one in found}
    if entry.method in (PLAIN, CEILING) or not {PLAIN, CEILING} <= means.keys():
        return ""
    gap = means[CEILING] - means[PLAIN]
    return f"{(entry.mean - means[PLAIN]) / gap:.0%}" if gap > 0 else ""
