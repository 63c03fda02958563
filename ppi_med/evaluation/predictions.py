"""The record of a network's answer about each case; tables are made from it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError
from ppi_med.evaluation.checks import Floats
from ppi_med.io import atomic_path

COLUMNS = ("volume_id", "subject", "site", "label", "score")
_FORMAT = 1


@dataclass(frozen=True)
class Predictions:
    """One entry per case, in the order of `volume_id`.

    Attributes:
        volume_id: name of the case.
        subject: the patient; empty if unknown.
        site: where it was taken; empty if unknown.
        label: 0 or 1.
        score: probability of label 1.
    """

    volume_id: NDArray[np.str_]
    subject: NDArray[np.str_]
    site: NDArray[np.str_]
    label: NDArray[np.int64]
    score: Floats

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Predictions:
        """Build from mappings with the keys of `COLUMNS`, sorted by `volume_id`.

        A case may come twice with the same values (a sampler that pads its last batch); it is kept
        once.

        Raises:
            ValueError: if one `volume_id` has two different rows, or a value is missing.
        """
        unique: dict[str, tuple[Any, ...]] = {}
        for row in rows:
            values = _row_values(row)
            known = unique.setdefault(values[0], values)
            if known != values:
                raise ValueError(
                    f"Case {values[0]!r} has two different rows, {known} and {values}, "
                    "expected one: volume_id must name one case."
                )
        ordered = [unique[name] for name in sorted(unique)]
        columns = list(zip(*ordered, strict=True)) if ordered else [()] * len(COLUMNS)
        return cls(
            volume_id=np.asarray(columns[0], dtype=np.str_),
            subject=np.asarray(columns[1], dtype=np.str_),
            site=np.asarray(columns[2], dtype=np.str_),
            label=np.asarray(columns[3], dtype=np.int64),
            score=np.asarray(columns[4], dtype=np.float64),
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read the CSV that `write` makes.

        Raises:
            ValueError: if a column is missing or a value is not a number, naming the file.
        """
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path} lacks the columns {missing}, expected {list(COLUMNS)}: "
                    "give the predictions of an evaluation."
                )
            try:
                return cls.from_rows(reader)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write as CSV, atomically; scores are read back exactly."""
        with (
            atomic_path(path) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True):
                writer.writerow((*row[:-1], repr(row[-1])))
        return Path(path)

    @property
    def units(self) -> NDArray[np.str_]:
        """The units of resampling: the subject of each case; if unknown, the case itself."""
        named = np.char.add("case ", self.volume_id) if len(self) else self.volume_id
        return np.where(self.subject == "", named, self.subject)

    def __len__(self) -> int:
        return int(self.label.size)

    def of_site(self, site: str) -> Predictions:
        """Return the cases of one site."""
        return self.where(self.site == site)

    def where(self, mask: NDArray[np.bool_]) -> Predictions:
        """Return the cases where the mask is true."""
        return Predictions(*(getattr(self, field.name)[mask] for field in fields(self)))

    def to_json(self) -> str:
        """Return the predictions as a text for a run's record; scores with seven digits.

        Examples:
            >>> row = {"volume_id": "v", "subject": "s", "site": "a", "label": 1, "score": 0.5}
            >>> Predictions.from_json(Predictions.from_rows([row]).to_json()).score.tolist()
            [0.5]
        """
        columns: dict[str, list[Any]] = {name: getattr(self, name).tolist() for name in COLUMNS}
        # The digits of float32.
        columns["score"] = [float(f"{score:.7g}") for score in columns["score"]]
        content = {"num_rows": len(self), "format": _FORMAT, **columns}
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Predictions:
        """Return the predictions in a text of `to_json`.

        Raises:
            UsageError: if it has another format.
        """
        content: Mapping[str, Any] = json.loads(text)
        if content.get("format") != _FORMAT:
            raise UsageError(
                f"Predictions are recorded in format {content.get('format')!r}, expected {_FORMAT}."
            )
        columns = [content[name] for name in COLUMNS]
        rows = (dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True))
        return cls.from_rows(rows)


def _row_values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of a row in the order of `COLUMNS`, converted."""
    name = str(row["volume_id"])
    if not name:
        raise ValueError("Got a row without a volume_id, expected a name for every case.")
    try:
        label, score = float(row["label"]), float(row["score"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Case {name!r} has label {row['label']!r} and score {row['score']!r}, "
            "expected two numbers."
        ) from error
    if label not in (0.0, 1.0):
        raise ValueError(f"Case {name!r} has label {row['label']!r}, expected 0 or 1.")
    return name, str(row["subject"]), str(row["site"]), int(label), score
