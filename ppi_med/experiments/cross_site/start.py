"""A sweep from what the command line says."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Literal, cast

from ppi_med.errors import UsageError
from ppi_med.experiments.cross_site.bundle import (
    config_files,
    config_hash,
    data_facts,
    default_methods,
)
from ppi_med.experiments.cross_site.plan import PLACE, SweepPlan, Training, parse_candidates
from ppi_med.experiments.cross_site.presets import preset_of
from ppi_med.experiments.cross_site.selection import selection_of
from ppi_med.experiments.cross_site.sweep import SweepResult, run_sweep
from ppi_med.experiments.pools import make_pool
from ppi_med.tracking.location import locate

logger = logging.getLogger(__name__)

# Baselines that see the lesions in training need a configuration that loads them.
_OVERLAYS = {"right_reasons": "lesions.json"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        kind: ``cross_site`` or ``cross_validate``.
        bundle: the bundle's folder; None: the preset's.
        preset: a sweep by name, or "".
        dataset_dir: "" for the preset's or the bundle's own.
        sites: to train and test on; none: all of the data.
        methods: none: the preset's, or plain and the bundle's own.
        seeds: of the runs.
        train: ``each``, ``all-but-one``, ``pooled``.
        folds: number of folds to leave out in turn (cross-validation).
        settings: to choose among, each ``NAME=VALUE,...``.
        selection: how to choose.
        overrides: id -> value of every cell.
        overlays: further configurations, by name.
        experiment: of MLflow; "" for one named by bundle and kind.
        name: of the sweep; "" for one named by bundle and kind.
        tracking_uri: "default": ``MLFLOW_TRACKING_URI``, or SQLite in the current folder.
        work: for checkpoints and outputs.
        output: for tables; None: ``results/NAME``.
        workers: processes; 0: this one.
        dask: address of a scheduler, or ``local``.
        command: what was typed, for the record.
    """

    kind: Literal["cross_site", "cross_validate"] = "cross_site"
    bundle: Path | None = None
    preset: str = ""
    dataset_dir: str = ""
    sites: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    train: tuple[str, ...] = ("each",)
    folds: int = 5
    settings: tuple[str, ...] = ()
    selection: str = "in-site"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    overlays: Sequence[str] = ()
    experiment: str = ""
    name: str = ""
    tracking_uri: str = "default"
    work: Path = Path("runs/sweeps")
    output: Path | None = None
    workers: int = 2
    dask: str | None = None
    command: str = ""


def start(request: Request) -> SweepResult:
    """Run a sweep, or go on with it; see :func:`ppi_med.experiments.cross_site.sweep.run_sweep`.

    Raises:
        UsageError: where something that was asked for does not exist.
    """
    selection = selection_of(request.selection)
    plan, facts = make_plan(request)
    location = locate(".", None if request.tracking_uri == "default" else request.tracking_uri)
    return run_sweep(
        plan,
        location,
        facts,
        work=request.work,
        output=request.output or Path("results") / plan.name,
        pool=make_pool(request.workers, request.dask),
        selection=selection,
        command=request.command,
    )


def make_plan(request: Request) -> tuple[SweepPlan, dict[str, Any]]:
    """Return the plan of a request, and the hashes of what it rests on.

    Raises:
        UsageError: where something that was asked for does not exist.
    """
    preset = preset_of(request.preset) if request.preset else None
    bundle = request.bundle or (Path(preset.bundle) if preset else None)
    if bundle is None:
        raise UsageError("Name a bundle's folder, such as bundles/ga_ppi, or a --preset.")
    if preset is not None and preset.phantom is not None and not request.dataset_dir:
        preset.phantom.make(Path(preset.data), max(request.workers, 1))
    dataset_dir = request.dataset_dir or (preset.dataset_dir if preset else "")
    overrides = {**(preset.overrides if preset else {}), **request.overrides}
    files = config_files(bundle, request.overlays)
    methods = request.methods or (preset.methods if preset else default_methods(files))
    if request.methods == () and preset is not None:
        methods = _runnable(bundle, methods)
    sites, facts = _data(files, dataset_dir, request.sites, overrides)
    crossed = request.kind == "cross_validate"
    name = request.name or f"{bundle.resolve().name}_{request.preset or request.kind}"
    plan = SweepPlan(
        bundle=bundle,
        files=files,
        dataset_dir=dataset_dir or str(_default_data(files)),
        sites=sites,
        methods=methods,
        seeds=request.seeds,
        trainings=("pooled",) if crossed else cast(tuple[Training, ...], request.train),
        candidates=parse_candidates(request.settings),
        folds=tuple(range(request.folds)) if crossed else (),
        overrides=overrides,
        overlays_of=_overlays_of(bundle, methods),
        kind=request.kind,
        experiment=request.experiment or f"{bundle.resolve().name}_{request.kind}",
        name=name.replace("-", "_"),
    )
    return plan, {**facts, "config": config_hash(files)}


def _data(
    files: Sequence[Path], dataset_dir: str, wanted: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the sites and the hashes of the data, of each site's where each has its own."""
    given = {**overrides, **({"dataset_dir": dataset_dir} if dataset_dir else {})}
    if PLACE not in dataset_dir:
        facts = data_facts(files, given)
        return _chosen(facts.sites, wanted), dict(facts.hashes)
    found = glob(f"{dataset_dir.replace(PLACE, '*')}/datalist.json")
    folders = sorted({Path(path).parent for path in found})
    if not folders and not wanted:
        raise UsageError(f"There is no data set {dataset_dir}: make one for each training site.")
    names = wanted or [_site_of(folder, dataset_dir) for folder in folders]
    hashes = {}
    for name in names:
        facts = data_facts(files, {**given, "dataset_dir": dataset_dir.replace(PLACE, name)})
        _chosen(facts.sites, names)
        hashes[name] = dict(facts.hashes)
    return tuple(names), hashes


def _site_of(folder: Path, dataset_dir: str) -> str:
    before, _, after = dataset_dir.rstrip("/").partition(PLACE)
    return str(folder.as_posix())[len(Path(f"{before}x").as_posix()) - 1 : -len(after) or None]


def _chosen(there: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    missing = [site for site in wanted if site not in there]
    if missing:
        raise UsageError(f"There is no site {missing[0]!r}, expected some of {list(there)}.")
    return tuple(wanted) or tuple(there)


def _default_data(files: Sequence[Path]) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser["bundle_root"] = files[0].parent.as_posix()
    return parser.get_parsed_content("dataset_dir")


def _overlays_of(bundle: Path, methods: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for method in methods:
        name = _OVERLAYS.get(method)
        if name is None:
            continue
        if not (bundle / name).is_file():
            raise UsageError(f"{method} sees lesions in training, and {bundle} has no {name}.")
        found[method] = (bundle / name,)
    return found


def _runnable(bundle: Path, methods: Sequence[str]) -> tuple[str, ...]:
    """Leave out a preset's methods that the bundle is not made for."""
    return tuple(
        method
        for method in methods
        if method not in _OVERLAYS or (bundle / _OVERLAYS[method]).is_file()
    )
