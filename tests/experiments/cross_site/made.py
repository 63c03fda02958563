"""Records of sweeps made by hand, and the slow way to what the tables say of them."""

from __future__ import annotations

import numpy as np

from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.sweep_records import CellRecord, Sweep

SITES = ("site_a", "site_b", "site_c")


def predictions(quality: dict[str, float], seed: int, subjects: int = 12) -> Predictions:
    """Two cases a subject at each site; scores agree with labels as well as `quality` says."""
    rng = np.random.default_rng(seed)
    rows = []
    for site, strength in quality.items():
        for number in range(subjects):
            label = number % 2
            for eye in ("l", "r"):
                score = 1 / (1 + np.exp(-(strength * (label - 0.5) + rng.normal())))
                rows.append(
                    {
                        "volume_id": f"{site}_{number}_{eye}",
                        "subject": f"{site}_{number}",
                        "site": site,
                        "label": label,
                        "score": float(score),
                    }
                )
    return Predictions.from_rows(rows)


def record(
    train: str,
    method: str,
    seed: int,
    quality: dict[str, float],
    *,
    candidate: str = "default",
    validation: float = 0.9,
    fold: int | None = None,
    train_sites: tuple[str, ...] | None = None,
) -> CellRecord:
    number = sum(map(ord, train + method + candidate)) * 100 + seed
    return CellRecord(
        name=f"{train}-{method}-{candidate}-seed{seed}",
        train_site=train,
        train_sites=train_sites or (train,),
        method=method,
        seed=seed,
        predictions=predictions(quality, number),
        validation=validation,
        candidate=candidate,
        fold=fold,
    )


def whole(methods: dict[str, float], seeds: tuple[int, ...] = (0, 1)) -> list[CellRecord]:
    """All cells of a sweep: strong on the own site, `methods` says how strong on others."""
    return [
        record(train, method, seed, {s: 4.0 if s == train else strength for s in SITES})
        for method, strength in methods.items()
        for train in SITES
        for seed in seeds
    ]


def sweep(kind: str = "cross_site") -> Sweep:
    return Sweep("r", "made", kind, "a_bundle", SITES, "1", "FINISHED")


def slow_auc(found: Predictions, subjects: list[str] | None = None) -> float:
    """Pairs counted one by one; a subject counts as often as it is named."""
    names = found.subject.tolist() if subjects is None else subjects
    cases = [
        (int(found.label[i]), float(found.score[i]))
        for name in (dict.fromkeys(names) if subjects is None else names)
        for i in range(len(found))
        if found.subject[i] == name
    ]
    positive = [s for label, s in cases if label]
    negative = [s for label, s in cases if not label]
    wins = [float(p > n) + 0.5 * float(p == n) for p in positive for n in negative]
    return float(np.mean(wins)) if wins else float("nan")
