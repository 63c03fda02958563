"""What a little data would give: a network's last layer, trained again on 20 or 50 labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.records import Record
from ppi_med.experiments.table import Value, number

_NAMES = {f"few_labels/{count}": f"last layer on {count} labels" for count in (20, 50)}
_DRAWS = 20


def few_label_aucs(
    files: Sequence[Path],
    overrides: Mapping[str, Any],
    weights: Path,
    few: Path,
    sites: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return the test AUC of a logistic regression on the features of a cell's network.

    Args:
        files: configuration of the bundle.
        overrides: overrides of the cell, with `dataset_dir`.
        weights: the cell's `model.pt`.
        few: a data set whose training part has the labels; none of it is in a test part.
        sites: sites of the test; None: all.

    Returns:
        `few_labels/20` and `few_labels/50` -> mean over 20 draws of as many patients, half of each
        class; without those for which there are too few patients.
    """
    from monai.bundle import ConfigParser
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from ppi_med.data.datalist import load_parts
    from ppi_med.handlers import load_weights

    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update({**overrides, "bundle_root": files[0].parent.as_posix()})
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    transform = parser.get_parsed_content("validate#preprocessing")
    known = load_parts(few / "datalist.json", "training")
    test = load_parts(f"{overrides['dataset_dir']}/datalist.json", "test", sites=sites)
    features, wanted = _features(network, transform, known), [int(one["label"]) for one in test]
    tested = _features(network, transform, test)
    found: dict[str, list[float]] = {}
    for name, draw in itertools.product(_NAMES, range(_DRAWS)):
        chosen = drawn(known, int(name.rpartition("/")[2]) // 2, draw)
        if chosen is not None:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(features[chosen], [int(known[k]["label"]) for k in chosen])
            score = model.decision_function(tested)
            found.setdefault(name, []).append(float(AUC(wanted, score)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def drawn(cases: Sequence[Mapping[str, Any]], each: int, seed: int) -> list[int] | None:
    """Return the places of `each` random cases of labels 0 and 1, one per patient.

    Returns:
        None where there are fewer patients.
    """
    chosen: dict[int, dict[str, int]] = {0: {}, 1: {}}
    for k in np.random.default_rng(seed).permutation(len(cases)).tolist():
        own, patient = chosen[int(cases[k]["label"])], str(cases[k]["subject"])
        if len(own) < each and patient not in {**chosen[0], **chosen[1]}:
            own[patient] = k
    both = [*chosen[0].values(), *chosen[1].values()]
    return both if len(both) == 2 * each else None


def few_columns(records: Sequence[Record]) -> list[str]:
    """Return the columns for a table of these records; none where no record has such a value."""
    return [title for name, title in _NAMES.items() if any(name in one for one in records)]


def few_values(records: Sequence[Record], columns: Sequence[str]) -> list[str | Value]:
    """Return the mean over a method's records for each of the columns; "" where one lacks it."""
    found = [[r[name] for r in records if name in r] for name, t in _NAMES.items() if t in columns]
    return [number(float(np.mean(own))) if len(own) == len(records) else "" for own in found]


def _features(network: Any, transform: Any, cases: Sequence[Mapping[str, Any]]) -> Any:
    import torch

    from ppi_med.evaluation.familiarity import features_of_items, recorded_features
    from ppi_med.training.modes import evaluating

    rows = []
    with evaluating(network), torch.no_grad(), recorded_features(network) as found:
        for case in cases:
            found.clear()
            network(torch.as_tensor(transform(dict(case))["image"]).as_subclass(torch.Tensor)[None])
            rows += [features_of_items(found, 1, sliced=True)]
    return np.concatenate([row for row in rows if row is not None])
