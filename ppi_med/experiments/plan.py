"""The cells of a sweep, one training each, and facts about a bundle and its data."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.datalist import sites_tag
from ppi_med.errors import UsageError, require_known
from ppi_med.experiments.cells import Cell
from ppi_med.experiments.compare import PLAIN

Training = Literal["each", "all-but-one", "pooled"]
TRAININGS: tuple[Training, ...] = ("each", "all-but-one", "pooled")
_OWN = {"sites", "test_sites", "method", "seed", "test_fold"}
PLACE = "{train_site}"
"""In `dataset_dir`: replaced by the training site, if each has its own data set."""


NEEDED = (
    "dataset_dir",
    "sites",
    "test_sites",
    "method",
    "method_options",
    "seed",
    "run_name",
    "output_dir",
    "ckpt_dir",
    "tracking_uri",
    "experiment",
    "tags",
)
"""Keys that a sweep sets, so that a classification bundle must have them."""

_PARTS = ("train", "validate", "test")


@dataclass(frozen=True)
class SweepPlan:
    """The settings of a sweep.

    Attributes:
        bundle: the bundle's folder.
        files: configuration and overlays, as written in the recorded command.
        dataset_dir: the data set; `{train_site}` in it is replaced in each cell.
        sites: sites to train and to test on.
        methods: values of `--method`.
        seeds: seeds of the runs.
        trainings: some of: on each site, on all but one, on all pooled.
        candidates: settings (`method_options`) among which a selection chooses.
        folds: subject-wise folds to leave out in turn, with one training on all sites each.
        overrides: id -> value of every cell.
        overlays_of: method -> further overlays that it needs.
        overrides_of: method -> further overrides of its cells, with `{train_site}` as above.
        kind: `cross_site` or `cross_validate`.
        experiment: experiment in MLflow.
        name: name of the sweep.
    """

    bundle: Path
    files: tuple[Path, ...]
    dataset_dir: str
    sites: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    trainings: tuple[Training, ...] = ("each",)
    candidates: tuple[Mapping[str, Any], ...] = ({},)
    folds: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    overlays_of: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    overrides_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kind: Literal["cross_site", "cross_validate"] = "cross_site"
    experiment: str = "cross_site"
    name: str = "cross_site"

    def __post_init__(self) -> None:
        for name in ("sites", "methods", "seeds", "trainings", "candidates"):
            values = [json.dumps(value, sort_keys=True) for value in getattr(self, name)]
            if not values or len(set(values)) < len(values):
                raise UsageError(f"{name} is {values}, expected one or more different ones.")
        for training in self.trainings:
            require_known("train", training, TRAININGS)
        if PLACE in self.dataset_dir and self.trainings != ("each",):
            raise UsageError(
                f"dataset_dir has {PLACE}: each site has a data set of its own, so that training "
                "on several is not possible; use --train each."
            )
        own = sorted(set(self.overrides) & _OWN)
        if own:
            raise UsageError(
                f"--override {own[0]} would train the same in each cell: a sweep sets "
                f"{', '.join(sorted(_OWN))} itself; say which by its own options."
            )
        twice = [name for name, n in Counter(one.name for one in self.cells()).items() if n > 1]
        if twice:
            raise UsageError(
                f"Two cells would both be named {twice[0]!r}, and share its folder: give sites and "
                "settings names that differ in letters, digits or any of _-.=,+"
            )

    def cells(self) -> list[Cell]:
        """Return the cells, seed by seed, so that an early stop leaves complete tables."""
        return [
            self._cell(train, method, candidate, seed, fold)
            for seed in self.seeds
            for fold in self.folds or (None,)
            for train in self.train_sites()
            for method in self.methods
            for candidate in self.candidates
        ]

    def train_sites(self) -> list[tuple[str, ...]]:
        """Return the sites of each training."""
        found: list[tuple[str, ...]] = []
        for training in self.trainings:
            if training == "each":
                found += [(site,) for site in self.sites]
            elif training == "all-but-one":
                found += [tuple(s for s in self.sites if s != site) for site in self.sites]
            else:
                found.append(self.sites)
        return list(dict.fromkeys(found))

    def label(self, train: tuple[str, ...]) -> str:
        """Return the sites of a training as one word."""
        everywhere = train == self.sites and len(self.sites) > 1
        return "all" if everywhere else sites_tag(train)

    def files_of(self, method: str) -> tuple[Path, ...]:
        """Return configuration and overlays of a method."""
        return (*self.files, *self.overlays_of.get(method, ()))

    def key(self, facts: Mapping[str, Any]) -> str:
        """Return the settings that all cells share; they identify a sweep among others of its name.

        Methods, seeds, settings to choose from and folds may be added to a sweep later.
        """
        shared = [
            self.kind,
            self.bundle.name,
            self.dataset_dir,
            list(self.sites),
            list(self.trainings),
            dict(self.overrides),
            dict(facts),
        ]
        text = json.dumps(shared, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _cell(
        self,
        train: tuple[str, ...],
        method: str,
        candidate: Mapping[str, Any],
        seed: int,
        fold: int | None,
    ) -> Cell:
        label = self.label(train)
        overrides: dict[str, Any] = {
            "dataset_dir": self.dataset_dir.replace(PLACE, label),
            "sites": list(train),
            "test_sites": list(self.sites),
            "method": method,
            "seed": seed,
            **{k: v.replace(PLACE, label) for k, v in self.overrides_of.get(method, {}).items()},
            **self.overrides,
        }
        if candidate:
            overrides["method_options"] = {**overrides.get("method_options", {}), **candidate}
        if fold is not None:
            overrides["test_fold"] = fold
        settings = ",".join(f"{name}={candidate[name]}" for name in sorted(candidate))
        left_out = "" if fold is None else f"fold{fold}"
        parts = [label, self._apart(label), method, settings, left_out, f"seed{seed}"]
        keys = {
            "train_site": label,
            "train_sites": list(train),
            "method": method,
            "candidate": settings,
            "seed": seed,
            "fold": fold,
        }
        return Cell(_safe("-".join(part for part in parts if part)), keys, overrides)

    def _apart(self, label: str) -> str:
        """Return a short hash for a label whose safe form could equal another's."""
        others = {self.label(train) for train in self.train_sites()} - {label}
        if _safe(label) == label or _safe(label) not in map(_safe, others):
            return ""
        return hashlib.sha256(label.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class DataFacts:
    """A bundle's statements about its data."""

    sites: tuple[str, ...]
    hashes: Mapping[str, str | None]


def default_methods(files: Sequence[Path]) -> tuple[str, ...]:
    """Return plain training and the method that the configurations train by default."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    own = parser.get_parsed_content("method") if "method" in parser.get() else PLAIN
    return tuple(dict.fromkeys((PLAIN, str(own))))


def config_hash(files: Sequence[Path]) -> str:
    """Return a hash of the configurations' content."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def data_facts(files: Sequence[Path], overrides: Mapping[str, Any]) -> DataFacts:
    """Return a bundle's statements about its data, without building anything else.

    Args:
        files: the configuration and its overlays.
        overrides: id -> value, such as `dataset_dir`.

    Raises:
        UsageError: if the bundle lacks a key, or its cases name no site.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    missing = [key for key in NEEDED if key not in parser.get()]
    if missing:
        raise UsageError(
            f"{files[0]} has no key {', '.join(missing)}, which a sweep sets in each run: use a "
            "classification bundle like bundles/ga_ppi, or add them."
        )
    # All sites, whatever the configuration selects; its own folder, as in a run.
    every = {"sites": None, "test_sites": None, "bundle_root": files[0].parent.as_posix()}
    for key, value in {**every, **overrides}.items():
        parser[key] = value
    found: set[str] = set()
    for part in _PARTS:
        for case in parser.get_parsed_content(f"{part}#data"):
            found.add(str(case.get("site", "")))
    if "" in found or not found:
        raise UsageError(
            f"Some cases of {parser.get_parsed_content('dataset_dir')} name no site: fill the "
            "manifest's column `site`."
        )
    hashes = parser.get_parsed_content("hashes") if "hashes" in parser.get() else {}
    return DataFacts(tuple(sorted(found)), dict(hashes))


def parse_candidates(texts: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Read settings to choose from, each `NAME=VALUE,NAME=VALUE`; none gives one empty setting.

    Raises:
        UsageError: if one is not of that form.

    Examples:
        >>> parse_candidates(["con_weight=0.1", "con_weight=0.3,share=0.05"])
        ({'con_weight': 0.1}, {'con_weight': 0.3, 'share': 0.05})
        >>> parse_candidates([])
        ({},)
    """
    found: list[dict[str, Any]] = []
    for text in texts:
        setting: dict[str, Any] = {}
        for item in text.split(","):
            name, separator, value = item.partition("=")
            if not separator or not name:
                raise UsageError(
                    f"A setting is {text!r}, expected NAME=VALUE, several separated by commas."
                )
            try:
                setting[name.strip()] = json.loads(value)
            except json.JSONDecodeError:
                setting[name.strip()] = value
        found.append(setting)
    return tuple(found) or ({},)


def _safe(name: str) -> str:
    """Return a name that is safe for a folder; letters of any script stay."""
    return re.sub(r"[^\w\-.=,+]", "_", name)
