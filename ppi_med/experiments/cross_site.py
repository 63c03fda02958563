"""Train on each site, test on every site: named sweeps, and sweeps from a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Any, Literal, cast

from ppi_med.errors import UsageError, require_known
from ppi_med.experiments.cells import config_files, require_methods
from ppi_med.experiments.plan import (
    PLACE,
    SweepPlan,
    Training,
    config_hash,
    data_facts,
    default_methods,
    parse_candidates,
)
from ppi_med.experiments.run import outlook
from ppi_med.experiments.selection import selection_of
from ppi_med.experiments.shortcut import AT_ITS_PLACE, last_epoch, other_eyes, unlabelled_for
from ppi_med.experiments.sweep import SweepResult, run_sweep
from ppi_med.experiments.sweep_records import finished_seconds
from ppi_med.phantoms.oct.spec import SITES
from ppi_med.tracking.location import locate

# Baselines that see lesions in training need a configuration that loads them.
_OVERLAYS = {"right_reasons": "lesions.json"}
_UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class GaPhantom:
    """Four simulated sites; the training site's mark agrees with the label there, and only there.

    For each training site there is a data set: its own mark agrees with the label in all of its
    training and validation subjects (1.0), and by chance in its held-out subjects; the other sites
    have no mark. The eyes are the same in all of them.

    Attributes:
        subjects: subjects of each site.
        seed: seed of the phantom; methods were developed on others.
        fractions: fractions of subjects, for training, validation and test.
        held_out: agreement in the held-out subjects of the training site. At 1.0 the mark is right
            there too, and plain training that reads it is perfect on the diagonal.
    """

    subjects: int = 160
    seed: int = 2029
    fractions: tuple[float, float, float] = (0.6, 0.1, 0.3)
    held_out: float = 0.5

    def make(self, folder: Path, workers: int, unlabelled: bool = False) -> None:
        """Make or complete the data sets: `FOLDER/SITE` for each training site.

        Args:
            folder: folder of them all.
            workers: processes.
            unlabelled: also make `FOLDER/unlabelled/SITE`, other eyes of the site.
        """
        from ppi_med.phantoms.oct.spec import OctPhantomSpec
        from ppi_med.phantoms.oct.write import make_oct_phantom

        for site in SITES:
            spec = OctPhantomSpec(
                subjects=self.subjects,
                agreement={site.name: 1.0},
                test_agreement={site.name: self.held_out},
                seed=self.seed,
                fractions=self.fractions,
            )
            make_oct_phantom(spec, folder / site.name, workers=workers)
            if unlabelled:
                other = other_eyes(replace(spec, sites=(site,), test_agreement=0.5))
                make_oct_phantom(other, folder / _UNLABELLED / site.name, workers=workers)


@dataclass(frozen=True)
class Preset:
    """A named sweep.

    Attributes:
        bundle: its folder.
        data: folder of the data.
        dataset_dir: the runs' value of it.
        methods: methods to compare.
        overrides: overrides of every run.
        phantom: makes the data; None if the data must exist.
    """

    bundle: str
    data: str
    dataset_dir: str
    methods: tuple[str, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    phantom: GaPhantom | None = None


_BASELINES = ("strong_augmentation", "random_mask", "group_dro", "irm", "rsc")
_GA = Preset(
    bundle="bundles/ga_ppi",
    data="data/ga_cross_site",
    dataset_dir=f"data/ga_cross_site/{PLACE}",
    methods=("plain", "random_mask", "ppi_wbp_shared", "auto"),
    overrides={
        **last_epoch(80),
        "val_interval": 20,
        **AT_ITS_PLACE,
    },
    phantom=GaPhantom(),
)
PRESETS: dict[str, Preset] = {
    "ga-phantom": _GA,
    "ga-phantom-marked": replace(
        _GA,
        data="data/ga_cross_site_marked",
        dataset_dir=f"data/ga_cross_site_marked/{PLACE}",
        phantom=GaPhantom(held_out=1.0),
    ),
    "lidc-vendors": Preset(
        bundle="bundles/lidc_ppi",
        data="",
        dataset_dir="",
        methods=(
            "plain",
            *_BASELINES,
            "random_context",
            "right_reasons",
            "ppi_wbp_shared",
            "ppi_wbp_context",
            "auto",
        ),
    ),
}


def preset_of(name: str) -> Preset:
    """Return a preset by its name.

    Raises:
        UsageError: for another name.

    Examples:
        >>> preset_of("ga-phantom").methods
        ('plain', 'random_mask', 'ppi_wbp_shared', 'auto')
    """
    require_known("preset", name, PRESETS)
    return PRESETS[name]


@dataclass(frozen=True)
class Request:
    """A requested sweep.

    Attributes:
        kind: `cross_site` or `cross_validate`.
        bundle: the bundle's folder; None: the preset's.
        preset: name of a sweep, or "".
        dataset_dir: "" for the preset's or the bundle's own.
        sites: sites to train and test on; none: all of the data.
        methods: none: the preset's, or plain and the bundle's own.
        seeds: seeds of the runs.
        train: `each`, `all-but-one`, `pooled`.
        folds: number of folds to leave out in turn (cross-validation).
        settings: settings to choose among, each `NAME=VALUE,...`.
        selection: how to choose.
        overrides: id -> value of every cell.
        overlays: further configurations, by name.
        experiment: experiment in MLflow; "" for one named by bundle and kind.
        name: name of the sweep; "" for one named by bundle and kind.
        tracking_uri: "default": `MLFLOW_TRACKING_URI`, or SQLite in the current folder.
        work: folder for checkpoints and outputs.
        output: folder for tables; None: `results/NAME`.
        workers: processes; 0 or 1: this one.
        dask: address of a scheduler, or `local`.
        command: the command line, for the record.
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
    """Run or continue a sweep; see `ppi_med.experiments.sweep.run_sweep`.

    Raises:
        UsageError: if something in the request does not exist.
    """
    selection = selection_of(request.selection)
    plan, facts = make_plan(request)
    location = locate(".", request.tracking_uri)
    return run_sweep(
        plan,
        location,
        facts,
        work=request.work,
        output=request.output or Path("results") / plan.name,
        workers=request.workers,
        dask=request.dask,
        selection=selection,
        command=request.command,
    )


def look_ahead(request: Request) -> str:
    """Return the cells of a sweep and the hours of those that are not finished; run nothing.

    Finished cells are those of the sweeps of the same name in MLflow, whose runs also give the
    time.

    Raises:
        UsageError: if something in the request does not exist.
    """
    plan, _ = make_plan(request, make_data=False)
    location = locate(".", request.tracking_uri)
    done = finished_seconds(location, plan.name)
    cells = plan.cells()
    missing = [cell for cell in cells if cell.name not in done]
    return outlook(cells, missing, list(done.values()), request.workers)


def make_plan(request: Request, *, make_data: bool = True) -> tuple[SweepPlan, dict[str, Any]]:
    """Return the plan of a request, and the hashes of its data and configuration.

    Args:
        request: the request.
        make_data: make a preset's phantom if it is missing; without it there are no hashes.

    Raises:
        UsageError: if something in the request does not exist.
    """
    preset = preset_of(request.preset) if request.preset else None
    bundle = request.bundle or (Path(preset.bundle) if preset else None)
    if bundle is None:
        raise UsageError("Name a bundle's folder, such as bundles/ga_ppi, or a --preset.")
    own_data = preset is not None and preset.phantom is not None and not request.dataset_dir
    if preset is not None and preset.phantom is not None and own_data and make_data:
        needed = "d_bat" in request.methods
        preset.phantom.make(Path(preset.data), max(request.workers, 1), needed)
    dataset_dir = request.dataset_dir or (preset.dataset_dir if preset else "")
    overrides = {**(preset.overrides if preset else {}), **request.overrides}
    files = config_files(bundle, request.overlays)
    methods = request.methods or (preset.methods if preset else default_methods(files))
    if request.methods == () and preset is not None:
        methods = _runnable(bundle, methods)
    if any("configured_method" in file.read_text(encoding="utf-8") for file in files):
        require_methods(methods)
    facts: dict[str, Any]
    if own_data and not make_data:
        sites, facts = request.sites or tuple(site.name for site in SITES), {}
    else:
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
        overrides_of={
            "d_bat": unlabelled_for("d_bat", f"{preset.data}/{_UNLABELLED}/{PLACE}")
            if preset is not None and own_data
            else {}
        },
        kind=request.kind,
        experiment=request.experiment or f"{bundle.resolve().name}_{request.kind}",
        name=name.replace("-", "_"),
    )
    return plan, {**facts, "config": config_hash(files)}


def _data(
    files: Sequence[Path], dataset_dir: str, wanted: Sequence[str], overrides: Mapping[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the sites and the hashes of the data, or of each site's own data."""
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
    """Leave out a preset's methods that the bundle does not support."""
    return tuple(
        method
        for method in methods
        if method not in _OVERLAYS or (bundle / _OVERLAYS[method]).is_file()
    )
