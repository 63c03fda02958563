"""The comparison of training methods: cells, records, tables by hand, one tiny run of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.experiments import compare
from ppi_med.experiments.methods import DEFAULT_METHODS, Methods, measures_of
from ppi_med.experiments.records import FolderRecords, cases_of
from ppi_med.experiments.run import run_experiment

ROOT = Path(__file__).resolve().parents[2]


def record(method: str, seed: int, right: list[int], sites: str = "", **measures: Any) -> Any:
    n = len(right)
    site = list(sites) if sites else [""] * n
    made = {
        "method": method,
        "seed": seed,
        "cell": f"{method}-seed{seed}",
        "test/accuracy": float(np.mean(right)),
        "cases": {
            "volume_id": [f"v{i}" for i in range(n)],
            "group": [f"v{i}" for i in range(n)],
            "site": site,
            "right": right,
        },
    }
    for name in sorted(set(sites)):
        own = [ok for ok, s in zip(right, site, strict=True) if s == name]
        made[f"test/accuracy/{name}"] = float(np.mean(own))
    for name, values in measures.items():
        made[f"test/{name}"] = float(np.nanmean([np.nan if v is None else v for v in values]))
        made["cases"][name] = values
    return made


def by_name(records: list[Any], **options: Any) -> dict[tuple[str, str], Any]:
    return {
        (e.measure, e.method): e
        for measure in measures_of(records)
        for e in compare.entries(records, measure, **options)
    }


def test_gains_are_paired_by_seed() -> None:
    records = [
        record("plain", 0, [0, 0, 1, 1]),
        record("plain", 1, [1, 0, 1, 1]),
        record("ppi_wbp", 1, [1, 1, 1, 1]),
        record("ppi_wbp", 0, [0, 1, 1, 1]),
        record("ppi_wbp", 2, [0, 0, 0, 0]),
    ]
    found = by_name(records, repeats=200)
    own, plain = found["test/accuracy", "ppi_wbp"], found["test/accuracy", "plain"]
    assert own.values == (0.75, 1.0, 0.0) and plain.values == (0.5, 0.75)
    assert own.gain.value == pytest.approx(0.25)  # seed 2 has no partner
    assert own.mean == pytest.approx(7 / 12)
    assert own.deviation == pytest.approx(np.std([0.75, 1, 0], ddof=1))
    assert plain.gain is None


def test_the_t_test_is_scipys_paired_one() -> None:
    rng = np.random.default_rng(0)
    rights = {
        (m, s): rng.integers(0, 2, 30).tolist() for m in ("plain", "ppi_lrp") for s in range(4)
    }
    records = [record(m, s, right) for (m, s), right in rights.items()]
    own = by_name(records, repeats=50)["test/accuracy", "ppi_lrp"]
    means = {m: [np.mean(rights[m, s]) for s in range(4)] for m in ("plain", "ppi_lrp")}
    assert own.p_seeds == pytest.approx(ttest_rel(means["ppi_lrp"], means["plain"]).pvalue)


def test_the_interval_is_that_of_all_resamples() -> None:
    """Of three cases and one seed all 27 resamples can be listed."""
    own, plain = [1, 1, 0], [0, 1, 0]
    found = by_name([record("plain", 0, plain), record("x", 0, own)], repeats=40000)
    entry = found["test/accuracy", "x"]
    gains = [
        np.mean([own[i] - plain[i] for i in draw]) for draw in itertools.product(range(3), repeat=3)
    ]
    assert entry.gain.low == pytest.approx(
        np.percentile(gains, 2.5, method="inverted_cdf"), abs=1e-9
    )
    assert entry.gain.high == pytest.approx(
        np.percentile(gains, 97.5, method="inverted_cdf"), abs=1e-9
    )
    assert entry.gain.p_value == pytest.approx(2 * np.mean(np.array(gains) <= 0), abs=0.02)


def test_equal_answers_gain_nothing_and_a_constant_gain_is_sure() -> None:
    half = [0, 1] * 20
    same = by_name(
        [record("plain", s, half) for s in (0, 1)] + [record("x", s, half) for s in (0, 1)]
    )
    entry = same["test/accuracy", "x"]
    gain = entry.gain
    assert (gain.value, gain.low, gain.high, gain.p_value) == (0, 0, 0, 1.0)
    assert entry.p_seeds == 1.0
    sure = by_name([record("plain", 0, [0] * 9), record("x", 0, [1] * 9)])["test/accuracy", "x"]
    assert (sure.gain.low, sure.gain.high) == (1.0, 1.0) and sure.gain.p_value < 0.002
    assert np.isnan(sure.p_seeds)


def test_sites_are_measures_of_their_own() -> None:
    records = [
        record("plain", 0, [1, 1, 0, 0], "ttss"),
        record("x", 0, [1, 0, 1, 1], "ttss"),
    ]
    assert measures_of(records) == ["test/accuracy/t", "test/accuracy/s"]
    found = by_name(records, repeats=300)
    gain = found["test/accuracy/s", "x"].gain
    assert gain.value == 1.0 and gain.low == 1.0
    assert found["test/accuracy/t", "x"].gain.value == -0.5


def test_energy_is_compared_case_by_case() -> None:
    right = [1, 0, 1]
    records = [
        record("plain", 0, right, energy_all=[0.2, None, 0.4]),
        record("x", 0, right, energy_all=[0.3, 0.9, 0.5]),
    ]
    assert measures_of(records) == ["test/accuracy", "test/energy_all"]
    assert by_name(records)["test/energy_all", "x"].values == (pytest.approx(1.7 / 3),)


def test_an_auc_is_compared_by_its_scores() -> None:
    cases = {
        "volume_id": list("abcd"),
        "group": list("abcd"),
        "site": [""] * 4,
        "label": [0, 1, 0, 1],
    }
    records = [
        {"method": m, "seed": 0, "test/auc": auc, "cases": {**cases, "score": score}}
        for m, auc, score in (("plain", 0.0, [4, 1, 3, 2]), ("x", 1.0, [1, 4, 2, 3]))
    ]
    gain = by_name(records)["test/auc", "x"].gain
    assert (gain.value, gain.low, gain.high) == (1.0, 1.0, 1.0)


def test_records_of_other_cases_are_refused() -> None:
    other = record("x", 0, [1, 1])
    other["cases"]["volume_id"] = ["a", "b"]
    with pytest.raises(ValueError, match="other test cases"):
        by_name([record("plain", 0, [1, 1]), other])


def test_the_table_has_a_line_a_method() -> None:
    made = [record("plain", 0, [0, 1]), record("x", 0, [1, 1])]
    (table,) = Methods.tables(made, repeats=20)
    lines = table.lines().splitlines()
    assert lines[2] == "| plain | 0.5000 (n=1) |  |  |  |"
    assert lines[3].startswith("| x | 1.0000 (n=1) | +0.5000 [")


def plan(tmp_path: Path, **changes: Any) -> Methods:
    options: dict[str, Any] = {
        "bundle": ROOT / "bundles/cifar10_ppi",
        "work": tmp_path / "work",
        "data": tmp_path / "data",
        "methods": ("plain", "ppi_wbp"),
        "seeds": (0,),
    }
    return Methods(**{**options, **changes})


def test_cells_and_what_is_refused(tmp_path: Path) -> None:
    cells = plan(tmp_path, methods=DEFAULT_METHODS, seeds=(0, 1)).cells()
    assert len(cells) == 16 and [c.keys["seed"] for c in cells] == [0] * 8 + [1] * 8
    with pytest.raises(UsageError, match="ppi_wpb"):
        plan(tmp_path, methods=("ppi_wpb",)).cells()
    with pytest.raises(MissingFileError, match="nothing"):
        run_experiment(plan(tmp_path, overlays=("nothing.json",)), FolderRecords(tmp_path))
    with pytest.raises(MissingFileError, match="convert"):
        plan(tmp_path).settings()


def test_records_of_other_settings_are_refused(tmp_path: Path) -> None:
    records = FolderRecords(tmp_path / "records")
    made = plan(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "datalist.json").write_text("{}")
    records.write(made.cells()[0], {"settings": {"bundle": "another"}})
    with pytest.raises(UsageError, match="other data or settings"):
        run_experiment(made, records)


def test_the_bundles_own_data_are_told_by_content(tmp_path: Path) -> None:
    bundle, own = tmp_path / "bundle", tmp_path / "bundle" / "own"
    own.mkdir(parents=True)
    (bundle / "train.json").write_text('{"dataset_dir": "$@bundle_root + \'/own\'"}')
    made = plan(tmp_path, bundle=bundle, data=None)
    with pytest.raises(MissingFileError, match="own: make or convert"):
        made.settings()
    (own / "datalist.json").write_text("{}")
    first = made.settings()
    assert first == plan(tmp_path, bundle=bundle, data=own).settings()
    (own / "datalist.json").write_text('{"test": []}')
    assert made.settings() != first


@pytest.mark.slow
def test_a_tiny_comparison(tmp_path: Path) -> None:
    from ppi_med.phantoms.birds.spec import BirdPhantomSpec
    from ppi_med.phantoms.birds.write import make_bird_phantom

    spec = BirdPhantomSpec(classes=2, training=40, test=6, size=32)
    make_bird_phantom(spec, tmp_path / "data", validation=0.2)
    overrides = {
        "max_epochs": 1,
        "batch_size": 8,
        "network_def#width": 0.0625,
        "device": "$torch.device('cpu')",
    }
    made, records = plan(tmp_path, overrides=overrides), FolderRecords(tmp_path / "records")
    assert run_experiment(made, records) == {}
    found = records.done()
    assert [r["cell"] for r in found] == ["plain-seed0", "ppi_wbp-seed0"]
    assert all(r["test/accuracy/swapped"] in [i / 6 for i in range(7)] for r in found)
    assert str(tmp_path) not in found[0]["command"] and "val/accuracy" in found[0]
    table = "".join(one.lines() for one in made.tables(found, repeats=50))
    assert "test/accuracy/tied" in table and "test/energy_all" in table
    before = {p: p.stat().st_mtime_ns for p in records.folder.iterdir()}
    assert run_experiment(made, records) == {}
    assert {p: p.stat().st_mtime_ns for p in records.folder.iterdir()} == before
    cases = cases_of(found[0])
    assert len(cases.columns["right"]) == 12 and set(cases.sites) == {"tied", "swapped"}
