"""The audit: read, measure, train shortly, judge, and write the result."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppi_med.audit.evidence import Collector, Evidence
from ppi_med.audit.network import Network, ask_network, bundle_network
from ppi_med.audit.page import write_page
from ppi_med.audit.pixels import Loaded, Scale, read_all, resized, scale_of
from ppi_med.audit.sources import GIVEN, LEAST_IMAGES, Source, folds, read_source, split
from ppi_med.errors import UsageError
from ppi_med.io import atomic_path, exclusive, write_json
from ppi_med.pace import Pace
from ppi_med.places import ImageStack, SearchSettings
from ppi_med.places.decision import write_decision

logger = logging.getLogger(__name__)
PAGE, JSON, PLACES, DECISION = "audit.html", "audit.json", "places.npz", "decision.yaml"
DATALIST = "datalist.json"
FEW = 60
"""With fewer validation patients the numbers are called uncertain."""
_CLUSTER_TOP = 0.5
_PLAIN, _PLACE, _STYLE, _DEVICE = "plain", "ppi_wbp_place", "ppi_wbp_style", "random_exchange"


@dataclass(frozen=True)
class Verdict:
    """The verdict of an audit.

    Attributes:
        shortcut: whether there is one.
        kind: `none`; `place`; `style` (no place, by the network); `device` (by the data
            alone, the surroundings tell the label); `header` (values outside the image do).
        reasons: sentences, the strongest first.
        look: what is worth a look, but is not a shortcut by the rule.
        recommended_method: the recommended training method.
        why: in one sentence.
    """

    shortcut: bool
    kind: str
    reasons: tuple[str, ...]
    look: tuple[str, ...]
    recommended_method: str
    why: str


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit.

    Attributes:
        source: the data set, without the cases that cannot be read.
        scale: the images' common scale.
        evidence: evidence of the data alone.
        network: evidence from a short training; None without one.
        verdict: the verdict.
        validation: patients of the validation part, by class.
        split: source of that part.
        unreadable: a sentence for each case that could not be read.
        command: command of the training that is recommended.
        files: the written files.
    """

    source: Source
    scale: Scale
    evidence: Evidence
    network: Network | None
    verdict: Verdict
    validation: tuple[int, ...]
    split: str
    unreadable: tuple[str, ...]
    command: str
    class_means: NDArray[np.float32]
    files: list[Path] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences at the top of the page."""
        said = list(self.source.notes)
        if sum(self.validation) < FEW or min(self.validation) < FEW // 4:
            said.append(
                f"The validation part has {sum(self.validation)} patients "
                f"({', '.join(map(str, self.validation))} by class): too few to be sure. Read the "
                "intervals, not the values."
            )
        if self.unreadable:
            said.append(
                f"{len(self.unreadable)} images could not be read and were left out: "
                f"{self.unreadable[0]}"
            )
        return tuple(said)

    def summary(self) -> dict[str, Any]:
        """Return the content of `audit.json`."""
        found = self.network.search if self.network else None
        effects = self.network.effects if self.network else ()
        places = [
            {**{k: v for k, v in _facts(p).items()}, "exchange": e}
            for p, e in zip(found.places if found else (), effects, strict=True)
        ]
        return {
            "shortcut": self.verdict.shortcut,
            "kind": self.verdict.kind,
            "reasons": list(self.verdict.reasons),
            "look": list(self.verdict.look),
            "j_net": found.j_net if found else None,
            "j_net_interval": list(found.j_net_interval) if found else None,
            "network_auc": found.auc if found else None,
            "places": places,
            "recommended_method": self.verdict.recommended_method,
            "why": self.verdict.why,
            "command": self.command,
            "data_alone": {
                "measures": self.evidence.rows(),
                "grid_auc": self.evidence.cells.tolist(),
                "grid_low": self.evidence.cells_low.tolist(),
                "grid_high": self.evidence.cells_high.tolist(),
            },
            "clusters": [
                {
                    "class": self.source.classes[c.label],
                    "images": c.count,
                    "asked": c.asked,
                    "edge_share": c.edge_share,
                    "examples": list(c.names),
                }
                for c in (self.network.clusters if self.network else ())
            ],
            "data": {
                "name": self.source.name,
                "form": self.source.form,
                "cases": len(self.source.cases),
                "patients": len(set(self.source.patient)),
                "classes": {
                    name: int((self.source.label == k).sum())
                    for k, name in enumerate(self.source.classes)
                },
                "validation_patients": list(self.validation),
                "split": self.split,
                "image_size": list(self.scale.size),
                "slices_of_a_volume": self.scale.positions,
            },
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def audit(
    dataset: str | Path,
    output: str | Path,
    *,
    label: str = "",
    bundle: str | Path | None = None,
    checkpoint: str | Path | None = None,
    data_only: bool = False,
    settings: SearchSettings | None = None,
    seed: int = 0,
    tracking_uri: str | None = None,
    progress: Callable[[str], None] = logger.info,
) -> Audit:
    """Find out what a network would learn from these data that it should not.

    Args:
        dataset: see `ppi_med.audit.sources.read_source`.
        output: folder of page, numbers, places and decision; made if missing.
        label: column of a CSV with the label.
        bundle: folder of a bundle whose network gets the short training instead of the default one.
        checkpoint: weights of that network: its maps are shown and its places exchanged.
        data_only: use no network.
        settings: settings of the search.
        seed: seed of parts, orders and weights.
        tracking_uri: MLflow's address, to record the audit there.
        progress: called with a line.

    Raises:
        UsageError: if data, bundle or checkpoint are not as expected, or another process writes
            to the output.
    """
    if checkpoint is not None and bundle is None:
        raise UsageError("--checkpoint needs --bundle, which defines the network of the weights.")
    source = read_source(dataset, label)
    progress(f"{source.name}: {len(source.cases)} cases, {source.form}; classes {source.classes}")
    with exclusive(output, "audit"):
        scale = scale_of(source.cases, seed)
        factory, given = None, None
        if bundle is not None:
            factory, given = bundle_network(bundle, scale.channels, len(source.classes), checkpoint)
        held, origin = split(source, seed)
        shown = _shown(source, scale, held, seed)
        collected = _collect(source, scale, shown, progress)
        source, held = collected.source, held[collected.read]
        shown = shown[collected.read]
        progress("data alone: header, ring, corners, grid")
        evidence = collected.collector.evidence(source.label, source.patient)
        network = None
        if not data_only:
            parts = _parts(source, scale, held, shown, collected.images)
            progress(f"short training on {len(parts[0].image)} images of {scale.size}")
            network = ask_network(
                *parts,
                factory=factory,
                given=given,
                settings=settings,
                seed=seed,
                progress=progress,
            )
        small = np.stack(collected.collector.small)
        means = [small[source.label == c].mean(0) for c in range(len(source.classes))]
        result = Audit(
            source=source,
            scale=scale,
            evidence=evidence,
            network=network,
            verdict=judge(evidence, network),
            validation=_patients(source, held),
            split=origin,
            unreadable=collected.problems,
            command="",
            class_means=np.stack(means),
        )
        return _written(result, Path(dataset), Path(output), bundle, held, tracking_uri)


def judge(evidence: Evidence, network: Network | None) -> Verdict:
    """Combine the evidence from the data alone and from the network."""
    alarms = [m for m in evidence.measures if m.level == "shortcut"]
    header = [m for m in alarms if m.group in ("header", "file")]
    around = [m for m in alarms if m.group.startswith("around")]
    reasons = []
    found = network.search if network else None
    if found and found.shortcut:
        reasons.append(found.reason.partition(":")[0] + ".")
    if around:
        named = ", ".join(f"{m.name} {m.auc:.2f}" for m in around)
        reasons.append(
            f"The surroundings alone tell the label (AUC of {named}; the whole image "
            f"{evidence.measures[0].auc:.2f}): device, sharpness, grey values or marks."
        )
    if header:
        named = ", ".join(f"{m.name} {m.auc:.2f}" for m in header[:4])
        reasons.append(f"Values outside the image tell the label (AUC of {named}).")
    look = tuple(
        f"{m.name}: AUC {m.auc:.2f} [{m.low:.2f}, {m.high:.2f}]"
        for m in evidence.measures
        if m.level == "look"
    )
    if found and found.shortcut:
        why = found.reason
        method = found.recommended_method
        return Verdict(True, found.kind, tuple(reasons), look, method, why)
    if around:
        why = (
            "No single place was found, the device as a whole tells the label: of the methods "
            f"that were tried on chest X-rays of two devices, {_DEVICE} lost nothing and gained a "
            "little (four runs); look for images of both classes from one device."
        )
        return Verdict(True, "device", tuple(reasons), look, _DEVICE, why)
    if header:
        why = (
            "Training cannot remove what groups the data: balance the classes within each "
            "value, or test on data in which it does not predict the label."
        )
        return Verdict(True, "header", tuple(reasons), look, _PLAIN, why)
    why = found.reason if found else "The data alone show no shortcut; no network was asked."
    return Verdict(False, "none", (), look, _PLAIN, why)


@dataclass(frozen=True)
class _Collected:
    source: Source
    read: NDArray[np.int64]
    collector: Collector
    images: torch.Tensor
    problems: tuple[str, ...]


def _shown(source: Source, scale: Scale, held: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    """Return which cases a network is shown: all, or whole patients drawn up to the budget."""
    count = len(source.cases)
    if count <= scale.most:
        return np.ones(count, bool)
    rng = np.random.default_rng(seed)
    names = sorted(set(source.patient))
    rank = dict(zip(names, rng.permutation(len(names)), strict=True))
    order = np.argsort([rank[name] for name in source.patient], kind="stable")
    shown = np.zeros(count, bool)
    shown[order[: scale.most]] = True
    return shown


def _collect(
    source: Source, scale: Scale, shown: NDArray[np.bool_], progress: Callable[[str], None]
) -> _Collected:
    collector = Collector(scale)
    shape = (int(shown.sum()) * scale.positions, scale.channels, *scale.size)
    images = torch.zeros(shape)
    read, problems, filled = [], [], 0
    pace = Pace(len(source.cases), "cases read", progress)
    for number, loaded in read_all(source.cases):
        pace.step()
        if not isinstance(loaded, Loaded):
            problems.append(str(loaded))
            continue
        if scale.volumes == (len(loaded.pixels) == 1):
            problems.append(f"{source.cases[number].name} is a volume among images, or one image.")
            continue
        slices = scale.slices(loaded.pixels)
        collector.add(loaded, slices)
        read.append(number)
        if shown[number]:
            for plane in slices:
                images[filled] = torch.from_numpy(resized(plane, scale.size)).permute(2, 0, 1)
                filled += 1
    kept = tuple(source.cases[k] for k in read)
    if len(kept) < LEAST_IMAGES or len({case.label for case in kept}) < 2:
        raise UsageError(
            f"{len(problems)} of {len(source.cases)} images cannot be read, too few are left: "
            f"{problems[0]}"
        )
    left = replace(source, cases=kept)
    return _Collected(left, np.array(read), collector, images[:filled], tuple(problems))


def _parts(
    source: Source,
    scale: Scale,
    held: NDArray[Any],
    shown: NDArray[np.bool_],
    images: torch.Tensor,
) -> tuple[ImageStack, ImageStack, list[str]]:
    """Return the images of the shown cases by part, and the names of the validation's cases."""
    units = np.flatnonzero(shown)
    label = torch.from_numpy(np.repeat(source.label[units], scale.positions))
    unit = torch.from_numpy(np.repeat(np.arange(len(units)), scale.positions))
    position = torch.arange(len(label)) % scale.positions
    names = {n: i for i, n in enumerate(sorted(set(source.patient)))}
    patient = torch.tensor([names[source.cases[k].patient] for k in units])[unit]
    out = torch.from_numpy(held[units].astype(bool))[unit]
    stack = ImageStack(images, label, unit, position, patient)
    validation = stack.chosen(out)
    shown_names = [source.cases[units[int(u)]].name for u in validation.unit.unique()]
    return stack.chosen(~out), validation, shown_names


def _patients(source: Source, held: NDArray[Any]) -> tuple[int, ...]:
    whose = np.array(source.patient)
    return tuple(
        len(set(whose[held.astype(bool) & (source.label == k)])) for k in range(len(source.classes))
    )


def _written(
    result: Audit,
    dataset: Path,
    output: Path,
    bundle: str | Path | None,
    held: NDArray[Any],
    tracking_uri: str | None,
) -> Audit:
    files = []
    if _needs_datalist(result):
        write_json(output / DATALIST, datalist(result.source, held))
        files.append(output / DATALIST)
    command = _command(result, dataset, output, bundle)
    result = replace(result, command=command)
    if result.network is not None:
        files += _write_places(result, output)
    write_json(output / JSON, result.summary())
    write_page(output / PAGE, result)
    result.files.extend([*files, output / JSON, output / PAGE])
    if tracking_uri is not None:
        _track(result, output, tracking_uri)
    return result


def _needs_datalist(result: Audit) -> bool:
    """Whether the bundles cannot read the data set as it is, or would split it differently."""
    source = result.source
    if source.form == "nodules" or any(case.group for case in source.cases):
        return False
    return source.form != "datalist" or result.split != GIVEN


def datalist(source: Source, held: NDArray[Any]) -> dict[str, list[dict[str, Any]]]:
    """Return MONAI's datalist of a data set, with the parts of the audit.

    Its test part is the data's own, else half of the patients that were held out.
    """
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    named = np.where(held.astype(bool), "validation", "training").astype(object)
    if not source.tested:
        second = folds(source.label, source.patient, 2) == 1
        named[held.astype(bool) & second] = "test"
    pairs = [*zip(source.cases, named, strict=True), *((case, "test") for case in source.tested)]
    for case, part in pairs:
        image = case.image if "::" in case.image else str(Path(case.image).resolve())
        item = {"image": image, "label": case.label, "class_name": source.classes[case.label]}
        item |= {"volume_id": case.name, "subject": case.patient, "site": case.site}
        parts[part].append(item)
    return parts


def _command(result: Audit, dataset: Path, output: Path, bundle: str | Path | None) -> str:
    if bundle is not None:
        chosen = str(bundle)
    elif result.source.form == "nodules" or result.source.cases[0].group:
        chosen = "bundles/lidc_ppi"
    elif result.scale.volumes:
        chosen = "bundles/ga_ppi"
    else:
        chosen = "bundles/cxr_ppi" if result.scale.channels == 1 else "bundles/cub_ppi"
    words = ["python", "-m", "monai.bundle", "run", "--config_file", f"{chosen}/train.json"]
    if _needs_datalist(result):
        words += ["--datalist", _here(output / DATALIST)]
    else:
        words += ["--datalist" if dataset.is_file() else "--dataset_dir", _here(dataset)]
    words += ["--method", result.verdict.recommended_method]
    if result.verdict.recommended_method == _PLACE:
        place = _here(output / DECISION)
        options = f"{{'place': '{place}'}}"
        plain = not set(place) & set("'\"$`\\!")
        size = "" if chosen.endswith("lidc_ppi") else f' --image_size "{list(result.scale.size)}"'
        return f"{shlex.join(words)}{size} --method_options " + (
            f'"{options}"' if plain else shlex.quote(options)
        )
    return f'{shlex.join(words)} --method_options "{{}}"'


def _here(path: Path) -> str:
    """Return a path for the command: relative if it is below the current folder."""
    whole, here = path.resolve(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _write_places(result: Audit, output: Path) -> list[Path]:
    network = result.network
    assert network is not None
    network.search.save(output / PLACES)
    size = result.scale.size
    masks = [cluster_mask(c.mean, size) for c in network.clusters]
    with np.load(output / PLACES, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["clusters"] = np.stack(masks) if masks else np.zeros((0, *size), bool)
    with atomic_path(output / PLACES) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    places = [{"name": f"place {n}", **_facts(p)} for n, p in enumerate(network.search.places, 1)]
    grown = [
        {
            "name": f"cluster {n}",
            "class": result.source.classes[c.label],
            "images": c.count,
            "share": round(float(mask.mean()), 4),
            "accepted": False,
        }
        for n, (c, mask) in enumerate(zip(network.clusters, masks, strict=True), 1)
    ]
    write_decision(output / DECISION, places, grown, masks=PLACES)
    files = [output / PLACES, output / DECISION]
    if result.scale.volumes:
        files.append(_write_nifti(network.search.place, output / "places.nii.gz"))
    return files


def _write_nifti(place: NDArray[np.bool_], path: Path) -> Path:
    """Write the accepted place as one B-scan on the network's grid."""
    from ppi_med.data.oct.nifti import write_nifti
    from ppi_med.data.oct.volume import Spacing

    return write_nifti(path, place[None].astype(np.uint8), Spacing())


def cluster_mask(mean: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return where a cluster's mean map is at least half of its top, bool `(H, W)`."""
    rows = np.arange(size[0]) * len(mean) // size[0]
    columns = np.arange(size[1]) * mean.shape[1] // size[1]
    return np.asarray(mean[np.ix_(rows, columns)] >= _CLUSTER_TOP * mean.max())


def _facts(place: Any) -> dict[str, Any]:
    return {
        "accepted": bool(place.accepted),
        "j": round(float(place.j), 4),
        "share": round(float(place.share), 4),
        "auc": round(float(place.auc), 4),
        "icc": round(float(place.icc), 4),
        "round": int(place.round),
    }


def _track(result: Audit, output: Path, uri: str) -> None:
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.run import RunTracker

    location = locate(output, None if uri == "default" else uri)
    network = result.network
    j_net = network.search.j_net if network else float("nan")
    places = sum(p.accepted for p in network.search.places) if network else 0
    tracker = RunTracker(
        location,
        output,
        experiment="audit",
        run_name=f"audit {result.source.name}",
        tags={
            "audit/j_net": f"{j_net:.3f}",
            "audit/places": str(places),
            "audit/shortcut": str(result.verdict.shortcut).lower(),
            "audit/kind": result.verdict.kind,
        },
        system_metrics=False,
        resume=False,
    )
    tracker.start()
    try:
        metrics = {f"audit/auc/{m.name}": m.auc for m in result.evidence.measures}
        if network:
            metrics["audit/j_net"] = j_net
        tracker.log_metrics(metrics, 0)
        for path in result.files:
            tracker.log_artifact(path, "audit")
        tracker.describe(f"Audit of {result.source.name}: {' '.join(result.verdict.reasons)}")
        tracker.finish()
    except BaseException:
        tracker.finish("FAILED")
        raise


def report_lines(result: Audit, output: Sequence[Path] = ()) -> list[str]:
    """Return the command's output, with the recommended training last."""
    v = result.verdict
    lines = [f"shortcut: {'yes, ' + v.kind if v.shortcut else 'none found'}"]
    lines += [f"  {reason}" for reason in v.reasons]
    if result.network is not None:
        s = result.network.search
        low, high = s.j_net_interval
        lines.append(f"J_net {s.j_net:.2f} [{low:.2f}, {high:.2f}], AUC {s.auc:.2f}")
    lines += [f"look at: {text}" for text in v.look]
    lines += [f"mind: {text}" for text in result.warnings]
    lines += [f"written: {path}" for path in output]
    lines += [f"{v.recommended_method}: {v.why}", result.command]
    return lines
