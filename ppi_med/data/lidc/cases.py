"""The patches of a data set as a bundle's cases: facts now, arrays when they are loaded.

Two kinds of data set are distinguished by their files: patches in Zarr as `extract_patches` wrote
them (`datalist.json`), and nodules in npz arrays with a table (`nodules.csv`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.datalist import UNASSIGNED, dataset_hashes, load_parts, require_kind
from ppi_med.data.lidc.datasets import LidcNodules
from ppi_med.data.lidc.nodules_npz import (
    FILES,
    NodulesNpz,
    nodule_splits,
    read_nodules_npz,
)
from ppi_med.data.splits import FILE_NAME, PARTS, Splits, crossed_parts, read_splits
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.naming import TAG_DATA_HASH, TAG_SPLIT_HASH

_CROSSED = (0.8, 0.2, 0.0)


def load_cases(
    dataset_dir: str | Path,
    part: str,
    *,
    sites: Sequence[str] | str | None = None,
    exclude_sites: Sequence[str] | str | None = None,
    fold: int | None = None,
    test_fold: int | None = None,
    over_four: Literal["drop", "keep"] = "drop",
) -> list[dict[str, Any]]:
    """Return the cases of a part, for `LoadPatchd`.

    Args:
        dataset_dir: folder of `extract_patches`, or with `nodules.csv` and its arrays.
        part: `training`, `validation`, `test`, or `all`, which needs no splits.
        sites: keep only these manufacturers.
        exclude_sites: leave these out.
        fold: validation is this fold, training the others; test stays.
        test_fold: test is this fold, an eighth of the other subjects validation, see
            `splits.crossed_parts`; the splits' own test part is not used. Nodules in npz arrays
            without `splits.json` have none then: all of their subjects are in the folds.
        over_four: for nodules in npz arrays: "drop" those of clusters with more than four
            annotations, whose number of readers is a choice and not a fact, or "keep" them.

    Returns:
        Dictionaries with `label`, `volume_id`, `subject`, `site`, and the location of the arrays.

    Raises:
        MissingFileError: if the folder is not a data set.
        UsageError: for an unknown part, site or fold, or nothing left.
    """
    folder = Path(dataset_dir)
    if part not in (*PARTS, "all"):
        raise UsageError(f"part is {part!r}, expected one of {[*PARTS, 'all']}.")
    if fold is not None and test_fold is not None:
        raise UsageError(f"Got fold={fold} and test_fold={test_fold}, expected one of them.")
    if is_npz(folder):
        cases = _npz_cases(folder, over_four)
    else:
        cases = load_parts(_datalist(folder), PARTS if part != "all" else (*PARTS, UNASSIGNED))
    chosen = cases
    if part != "all":
        splits = case_splits(folder, test_fold)
        place = _places(splits, {str(case["subject"]) for case in cases}, fold, test_fold)
        chosen = [case for case in cases if place.get(str(case["subject"])) == part]
    kept = _of_sites(chosen, cases, sites, exclude_sites)
    if not kept:
        raise UsageError(f"{folder} has nothing left in {part}, sites {sites}: choose others.")
    return kept


def case_splits(dataset_dir: str | Path, test_fold: int | None = None) -> Splits:
    """Return the splits of a data set.

    For nodules in npz arrays without `splits.json` they are made from the table, always the same:
    nothing is written beside published data.

    Raises:
        MissingFileError: for patches without splits.
    """
    folder = Path(dataset_dir)
    if (folder / FILE_NAME).is_file():
        return read_splits(folder / FILE_NAME)
    if is_npz(folder):
        fractions = (0.6, 0.2, 0.2) if test_fold is None else _CROSSED
        return nodule_splits(nodules_of(folder), fractions=fractions)
    raise MissingFileError(
        f"{folder} has no {FILE_NAME}: extract the patches of more patients, so that they can be "
        "parted."
    )


def case_hashes(dataset_dir: str | Path, test_fold: int | None = None) -> dict[str, str | None]:
    """Return `data_hash` and `split_hash` of a data set, None for a missing file.

    Examples:
        >>> case_hashes("no/such/folder")
        {'data_hash': None, 'split_hash': None}
    """
    folder = Path(dataset_dir)
    if not is_npz(folder):
        return dataset_hashes(folder)
    found = hashlib.sha256()
    for name in FILES:
        found.update((folder / name).read_bytes())
    return {
        TAG_DATA_HASH: found.hexdigest(),
        TAG_SPLIT_HASH: case_splits(folder, test_fold).hash,
    }


def require_cases(dataset_dir: str | Path) -> None:
    """Refuse to start without a data set, naming the command that makes one.

    Args:
        dataset_dir: the data set's folder.

    Raises:
        MissingFileError: if it holds neither patches nor nodules.
        UsageError: for a data set of another kind.
    """
    folder = Path(dataset_dir)
    if is_npz(folder):
        return
    if (folder / "datalist.json").is_file():
        require_kind(folder / "datalist.json", "patches of CT")
        return
    raise MissingFileError(
        f"There is no data set in {folder} (neither datalist.json nor nodules.csv): make the "
        f"phantom with `ppi-med make-phantom lidc --output {folder} --count 240 "
        "--variant nodule`, or name your own with --dataset_dir."
    )


def is_npz(folder: str | Path) -> bool:
    """Say whether a folder holds nodules in npz arrays."""
    return (Path(folder) / "nodules.csv").is_file()


@lru_cache(maxsize=2)
def nodules_of(folder: Path) -> NodulesNpz:
    """Return the arrays and the table of a folder, read once a process."""
    try:
        return read_nodules_npz(folder)
    except FileNotFoundError as error:
        raise MissingFileError(str(error)) from error


def _npz_cases(folder: Path, over_four: Literal["drop", "keep"]) -> list[dict[str, Any]]:
    nodules = LidcNodules(nodules_of(folder), over_four=over_four)
    place = str(folder.resolve())
    return [{"image": place, "row": row, **nodules.facts(row)} for row in nodules.indices]


def _datalist(folder: Path) -> Path:
    require_cases(folder)
    return folder / "datalist.json"


def _places(
    splits: Splits, subjects: set[str], fold: int | None, test_fold: int | None
) -> Mapping[str, str | None]:
    if test_fold is None:
        return {subject: splits.part_of(subject, fold) for subject in subjects}
    return crossed_parts(splits, subjects, test_fold)


def _of_sites(
    cases: list[dict[str, Any]],
    everywhere: list[dict[str, Any]],
    sites: Sequence[str] | str | None,
    exclude_sites: Sequence[str] | str | None,
) -> list[dict[str, Any]]:
    keep, drop = _listed(sites), _listed(exclude_sites)
    there = sorted({str(case["site"]) for case in everywhere})
    for site in [*keep, *drop]:
        if site not in there:
            raise UsageError(f"There is no site {site!r}, expected some of {there}.")
    return [
        case for case in cases if (not keep or case["site"] in keep) and case["site"] not in drop
    ]


def _listed(sites: Sequence[str] | str | None) -> list[str]:
    return [sites] if isinstance(sites, str) and sites else [str(site) for site in sites or ()]
