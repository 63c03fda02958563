"""Splits: subject-wise, site-aware, stratified by label; one file, written once.

Subjects are grouped into strata (sites x labels). In each stratum they are shuffled by the seed
and dealt to training, validation and test, in shares as near to the requested fractions as whole
subjects allow; later strata compensate for rounding. The folds divide the subjects of training and
validation in the same way; the test subjects are in no fold.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.data.manifest import COLUMNS, ManifestRow
from ppi_med.errors import UsageError
from ppi_med.io import write_json

PARTS = ("training", "validation", "test")
FILE_NAME = "splits.json"
_FORMAT = 1


@dataclass(frozen=True)
class Splits:
    """The part and the fold of each subject.

    Attributes:
        parts: part name to its subjects, sorted; no subject is in two parts.
        folds: the subjects of training and validation, divided again.
        seed: seed of the shuffle.
        fractions: the requested fractions, in the order of `PARTS`.
        stratify: the row fields that made the strata.
    """

    parts: Mapping[str, tuple[str, ...]]
    folds: tuple[tuple[str, ...], ...]
    seed: int
    fractions: tuple[float, float, float]
    stratify: tuple[str, ...] = ("site", "label")

    def __post_init__(self) -> None:
        if set(self.parts) != set(PARTS):
            raise ValueError(f"The parts are {sorted(self.parts)}, expected {list(PARTS)}.")
        _once([s for name in PARTS for s in self.parts[name]], "two parts")
        _once([s for fold in self.folds for s in fold], "two folds")
        rest = set(self.parts["training"]) | set(self.parts["validation"])
        in_folds = {s for fold in self.folds for s in fold}
        if self.folds and in_folds != rest:
            odd = sorted(in_folds ^ rest)
            raise ValueError(
                f"The folds must hold the subjects of training and validation and no other; "
                f"{odd[0]!r} breaks that."
            )

    @property
    def hash(self) -> str:
        """SHA-256 of everything above."""
        text = json.dumps(self._body(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def part_of(self, subject: str, fold: int | None = None) -> str | None:
        """Return the part of a subject, or `None` if the splits do not know it.

        Args:
            subject: as in the manifest.
            fold: if given, validation is this fold and training the other folds.

        Raises:
            UsageError: for a fold that does not exist.
        """
        if fold is None:
            for name in PARTS:
                if subject in self.parts[name]:
                    return name
            return None
        if not isinstance(fold, int) or not 0 <= fold < len(self.folds):
            known = f"0 to {len(self.folds) - 1}" if self.folds else "none: there are no folds"
            raise UsageError(f"fold is {fold!r}, expected {known}.")
        if subject in self.parts["test"]:
            return "test"
        for index, members in enumerate(self.folds):
            if subject in members:
                return "validation" if index == fold else "training"
        return None

    def _body(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "seed": self.seed,
            "fractions": list(self.fractions),
            "stratify": list(self.stratify),
            "parts": {name: list(self.parts[name]) for name in PARTS},
            "folds": [list(fold) for fold in self.folds],
        }


VALIDATION_SHARE = 0.125
"""Share of the subjects that are not in the test fold; see `crossed_parts`."""


def crossed_parts(
    splits: Splits,
    subjects: Iterable[str],
    test_fold: int,
    labels: Mapping[str, set[Any]] | None = None,
) -> dict[str, str]:
    """Return the part of each subject in one round of a cross-validation.

    Test is one fold. Of the other subjects a share, `VALIDATION_SHARE` of them (at least one of
    three or more), is validation, drawn by a hash of the splits' seed and the subject; the rest
    trains. The splits' own test part is left out: it stays for the end.

    Args:
        splits: with at least two folds.
        subjects: those of the data set.
        test_fold: index of the fold.
        labels: labels of each subject; a class that the validation part lacks is then taken from
            the next subject that has it.

    Raises:
        UsageError: for a fold that does not exist, or a single one.

    Examples:
        >>> folds = (("a", "b"), ("c", "d", "e"))
        >>> splits = Splits({"training": tuple("abcde"), "validation": (), "test": ()}, folds, 0,
        ...                 (1.0, 0.0, 0.0))
        >>> sorted(crossed_parts(splits, "abcde", 0).values())
        ['test', 'test', 'training', 'training', 'validation']
    """
    if len(splits.folds) == 1:
        raise UsageError("test_fold needs at least 2 folds, and the splits have 1.")
    place = {name: splits.part_of(name, test_fold) for name in subjects}
    rest = sorted(
        (name for name, part in place.items() if part == "training"),
        key=lambda name: hashlib.sha256(f"validation-{splits.seed}-{name}".encode()).hexdigest(),
    )
    count = max(round(VALIDATION_SHARE * len(rest)), int(len(rest) > 2))
    held = set(rest[:count])
    if labels is not None:
        seen = set().union(*(labels[name] for name in held))
        for name in rest[count:]:
            if labels[name] - seen:
                held.add(name)
                seen |= labels[name]
    parts = {name: "validation" if name in held else "training" for name in rest}
    return parts | {name: "test" for name, part in place.items() if part == "validation"}


def make_splits(
    rows: Iterable[ManifestRow],
    *,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    folds: int = 5,
    seed: int = 0,
    stratify: Sequence[str] = ("site", "label"),
) -> Splits:
    """Split the subjects of a manifest.

    Rows without subject or label are left out.

    Args:
        rows: the manifest.
        fractions: fractions of subjects, for training, validation and test; they are brought to sum
            1.
        folds: number of folds over training and validation; 0 for none.
        seed: seed of the shuffle; the same rows in any order and the same seed give the same
            splits.
        stratify: row fields whose values (all those of a subject together) make the strata.

    Returns:
        The splits.

    Raises:
        ValueError: for fractions that are not three shares, a bad number of folds, a fraction
            that gets no subject, fewer subjects than folds, or an unknown row field.

    Examples:
        >>> rows = [ManifestRow(f"v{i}", subject=f"s{i}", label=i % 2) for i in range(10)]
        >>> {part: len(subjects) for part, subjects in make_splits(rows).parts.items()}
        {'training': 6, 'validation': 2, 'test': 2}
    """
    shares = _shares(fractions)
    strata = _strata(rows, tuple(stratify))
    total = sum(len(members) for members in strata.values())
    if total == 0:
        raise ValueError("No row has both a subject and a label: there is nothing to split.")
    rng = random.Random(f"splits-{seed}")
    dealt = _deal(strata, shares, rng)
    parts = {name: tuple(sorted(dealt[i])) for i, name in enumerate(PARTS)}
    for name, share in zip(PARTS, shares, strict=True):
        if share > 0 and not parts[name]:
            raise ValueError(
                f"{total} subjects are too few for a share of {share:g} in {name}: "
                "set that fraction to 0, or add subjects."
            )
    held = set(parts["test"])
    rest = {key: [s for s in members if s not in held] for key, members in strata.items()}
    number = sum(len(members) for members in rest.values())
    if folds < 0 or folds == 1 or folds > number:
        raise ValueError(
            f"folds is {folds}, expected 0 or 2 to {number} (subjects in training and validation)."
        )
    pieces = _deal(rest, [1 / folds] * folds, rng) if folds else []
    return Splits(
        parts=parts,
        folds=tuple(tuple(sorted(piece)) for piece in pieces),
        seed=seed,
        fractions=(shares[0], shares[1], shares[2]),
        stratify=tuple(stratify),
    )


def write_splits(path: str | Path, splits: Splits, *, overwrite: bool = False) -> Path:
    """Write the splits once.

    Raises:
        FileExistsError: if the file exists with other content and `overwrite` is not set.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        if read_splits(path).hash == splits.hash:
            return path
        raise FileExistsError(
            f"{path.name} exists with other splits; results made with it would no longer be "
            "comparable. Ask for new splits explicitly to replace it."
        )
    write_json(path, splits._body() | {"hash": splits.hash})
    return path


def read_splits(path: str | Path) -> Splits:
    """Read and check the splits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a subject is in two parts, or the content does not fit the hash in the file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No {path.name} in {path.parent}.")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        splits = Splits(
            parts={name: tuple(map(str, members)) for name, members in body["parts"].items()},
            folds=tuple(tuple(map(str, fold)) for fold in body["folds"]),
            seed=int(body["seed"]),
            fractions=tuple(float(f) for f in body["fractions"]),  # type: ignore[arg-type]
            stratify=tuple(body["stratify"]),
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name}: not a splits file ({error}).") from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if body.get("hash") != splits.hash:
        raise ValueError(
            f"{path.name}: the content does not fit its hash; it was changed after it was written. "
            "Make new splits instead of editing them."
        )
    return splits


def check_stratify(names: Iterable[str], extra: Iterable[str] = ()) -> None:
    """Check the names of the row fields for the strata.

    Raises:
        UsageError: for a name that no row has.
    """
    known = [*COLUMNS, *extra]
    for name in names:
        if name not in known:
            raise UsageError(f"stratify is {name!r}, expected some of {known}.")


def _shares(fractions: Sequence[float]) -> list[float]:
    values = [float(f) for f in fractions]
    if len(values) != len(PARTS) or min(values) < 0 or values[0] <= 0:
        raise ValueError(
            f"fractions is {list(fractions)}, expected three shares for {', '.join(PARTS)}, "
            "none negative and the first above 0."
        )
    return [value / sum(values) for value in values]


def _strata(
    rows: Iterable[ManifestRow], stratify: tuple[str, ...]
) -> dict[tuple[str, ...], list[str]]:
    """Return stratum to subjects, both sorted: the order of the rows must not matter."""
    values: dict[str, list[set[str]]] = {}
    for row in rows:
        if not row.subject or row.label is None:
            continue
        check_stratify(stratify, row.extra)
        found = values.setdefault(row.subject, [set() for _ in stratify])
        for kept, name in zip(found, stratify, strict=True):
            kept.add(str(row.extra[name] if name in row.extra else getattr(row, name)))
    strata: dict[tuple[str, ...], list[str]] = {}
    for subject in sorted(values):
        key = tuple("+".join(sorted(kept)) for kept in values[subject])
        strata.setdefault(key, []).append(subject)
    return dict(sorted(strata.items()))


def _deal(
    strata: Mapping[tuple[str, ...], Sequence[str]], shares: Sequence[float], rng: random.Random
) -> list[list[str]]:
    """Deal the subjects of each stratum to piles in the given shares.

    Each subject goes to the pile that is furthest below its share of the subjects dealt so far, in
    its own stratum first and, if strata are small, over all of them.
    """
    piles: list[list[str]] = [[] for _ in shares]
    dealt = 0
    for members in strata.values():
        shuffled = list(members)
        rng.shuffle(shuffled)
        here = [0] * len(shares)
        for number, subject in enumerate(shuffled, start=1):
            dealt += 1
            lacks = [
                (round(share * number - here[i], 9), round(share * dealt - len(piles[i]), 9), -i)
                if share > 0
                else (float("-inf"), 0.0, 0)
                for i, share in enumerate(shares)
            ]
            best = max(range(len(shares)), key=lambda i: _lack(lacks[i]))
            here[best] += 1
            piles[best].append(subject)
    return piles


def _lack(lack: tuple[float, float, int]) -> tuple[float, int]:
    """Weigh the lack within the stratum and over all strata equally; ties go to the first pile."""
    return (round(lack[0] + lack[1], 9), lack[2])


def _once(names: list[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"subject {name!r} is in {where}, expected it in one.")
        seen.add(name)
