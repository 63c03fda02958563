"""What an audit leaves behind: page, numbers, places, decision, datalist, record, and its lines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.audit.page import write_page
from ppi_med.audit.result import Audit, place_facts
from ppi_med.audit.sources import GIVEN, Source, folds
from ppi_med.io import atomic_path, write_json
from ppi_med.places.decision import write_decision

PAGE, JSON, PLACES, DECISION = "audit.html", "audit.json", "places.npz", "decision.yaml"
DATALIST = "datalist.json"
_CLUSTER_TOP = 0.5
_PLACE = "ppi_wbp_place"


def written(
    result: Audit,
    dataset: Path,
    output: Path,
    bundle: str | Path | None,
    held: NDArray[Any],
    tracking_uri: str | None,
) -> Audit:
    """Write the files, record them if asked, and return the audit with its command."""
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
    neutral = result.network.search.neutral if result.network else None
    frozen = neutral is None or not neutral.of_texture
    if result.verdict.recommended_method == _PLACE and frozen:
        place = _here(output / DECISION)
        # The audit has one grey scale for all volumes, bundles normalise each, mark included.
        even = ", 'even': True" if result.scale.volumes else ""
        options = f"{{'place': '{place}'{even}}}"
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
    places = [
        {"name": f"place {n}", **place_facts(p)} for n, p in enumerate(network.search.places, 1)
    ]
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
    said = {".html": "open"}
    lines += [f"{said.get(path.suffix, 'written')}: {path}" for path in output]
    bundle = Path(shlex.split(result.command)[5]).parent
    copied = [] if bundle.is_dir() else [f"first: ppi-med copy {bundle.name} {bundle.as_posix()}"]
    return [*lines, f"{v.recommended_method}: {v.why}", *copied, result.command]
