"""The audit: read, measure, train shortly, judge, and write the result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppi_med.audit.evidence import Collector
from ppi_med.audit.network import ask_network, bundle_network
from ppi_med.audit.pixels import Loaded, Scale, read_all, resized, scale_of
from ppi_med.audit.result import Audit, judge
from ppi_med.audit.sources import LEAST_IMAGES, Source, read_source, split
from ppi_med.audit.write import written
from ppi_med.errors import UsageError
from ppi_med.io import exclusive
from ppi_med.pace import Pace
from ppi_med.places import ImageStack, SearchSettings

logger = logging.getLogger(__name__)


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
            verdict=judge(evidence, network, source.classes),
            validation=_patients(source, held),
            split=origin,
            unreadable=collected.problems,
            command="",
            class_means=np.stack(means),
        )
        return written(result, Path(dataset), Path(output), bundle, held, tracking_uri)


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
