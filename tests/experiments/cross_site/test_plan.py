"""The cells of a sweep and what makes two sweeps the same one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ppi_med.errors import UsageError
from ppi_med.evaluation.predictions import Predictions
from ppi_med.experiments.plan import SweepPlan, parse_candidates
from ppi_med.tracking.settings import described_predictions
from tests.experiments.cross_site.made import predictions

BUNDLE = Path("bundles/ga_ppi")


def plan(**changes: object) -> SweepPlan:
    options = {
        "bundle": BUNDLE,
        "files": (BUNDLE / "train.json",),
        "dataset_dir": "data/x",
        "sites": ("a", "b", "c"),
        "methods": ("plain", "ppi"),
        "seeds": (0, 1),
        **changes,
    }
    return SweepPlan(**options)


def test_a_method_may_have_overrides_of_its_own() -> None:
    own = {"d_bat": {"unlabelled": "data/others/{train_site}"}}
    cells = plan(methods=("plain", "d_bat"), seeds=(0,), overrides_of=own).cells()
    found = [cell.overrides.get("unlabelled") for cell in cells]
    assert found[:4] == [None, "data/others/a", None, "data/others/b"]


def test_one_training_for_each_site_method_and_seed() -> None:
    cells = plan().cells()
    assert len(cells) == len({cell.name for cell in cells}) == 3 * 2 * 2
    one = cells[0]
    assert one.name == "a-plain-seed0"
    assert one.overrides["sites"] == ["a"] and one.overrides["test_sites"] == ["a", "b", "c"]
    assert [cell.keys["seed"] for cell in cells] == [0] * 6 + [1] * 6


def test_all_but_one_and_pooled() -> None:
    found = plan(trainings=("each", "all-but-one", "pooled"), seeds=(0,), methods=("plain",))
    names = [cell.keys["train_site"] for cell in found.cells()]
    assert names == ["a", "b", "c", "b+c", "a+c", "a+b", "all"]
    assert found.cells()[3].overrides["sites"] == ["b", "c"]


def test_each_site_may_have_a_data_set_of_its_own() -> None:
    cells = plan(dataset_dir="data/{train_site}").cells()
    assert {cell.overrides["dataset_dir"] for cell in cells} == {"data/a", "data/b", "data/c"}
    with pytest.raises(UsageError, match="data set of its own"):
        plan(dataset_dir="data/{train_site}", trainings=("pooled",))


def test_settings_and_folds() -> None:
    found = plan(
        candidates=({"share": 0.1}, {"share": 0.2}),
        folds=(0, 1),
        trainings=("pooled",),
        overrides={"method_options": {"every": 2}, "max_epochs": 1},
    )
    cells = found.cells()
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 2 * 2 * 2
    assert cells[1].overrides["method_options"] == {"every": 2, "share": 0.2}
    assert cells[0].name == "all-plain-share=0.1-fold0-seed0"
    assert {cell.overrides["test_fold"] for cell in cells} == {0, 1}


def test_names_can_be_folders() -> None:
    cells = plan(sites=("GE MEDICAL/x", "b")).cells()
    assert cells[0].name == "GE_MEDICAL_x-plain-seed0"
    assert cells[0].overrides["sites"] == ["GE MEDICAL/x"]


@pytest.mark.parametrize(
    "sites", [("GE 1", "GE_1", "GE/1"), ("北京", "上海"), ("北京", "上海", "a")]
)
def test_sites_that_look_alike_as_folders_have_cells_of_their_own(sites: tuple[str, ...]) -> None:
    found = plan(sites=sites, trainings=("each", "all-but-one", "pooled")).cells()
    assert len({cell.name for cell in found}) == len(found)
    assert all(re.fullmatch(r"[\w\-.=,+]+", cell.name) for cell in found)
    kept = {str(cell.keys["train_site"]): cell.name for cell in found[::-1]}
    for site in {"GE_1", "a", "北京", "上海"} & set(sites):
        assert kept[site].startswith(f"{site}-plain-")


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": ({"mask": "a b"}, {"mask": "a/b"})},
        {"sites": ("all", "b"), "trainings": ("each", "pooled")},
        {"sites": ("a-plain", "a"), "methods": ("plain", "plain-plain")},
    ],
)
def test_two_cells_of_one_name_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="Two cells would both be named"):
        plan(**changes)


def test_the_key_changes_with_settings_and_not_with_what_is_added() -> None:
    key = plan().key({"data": "1"})
    assert plan(seeds=(5,), methods=("rsc",)).key({"data": "1"}) == key
    assert plan().key({"data": "2"}) != key
    assert plan(overrides={"max_epochs": 1}).key({"data": "1"}) != key
    assert plan(sites=("a", "b")).key({"data": "1"}) != key


def test_what_a_sweep_sets_itself_cannot_be_overridden() -> None:
    """A method given there trained every cell, whatever the cell was named."""
    with pytest.raises(UsageError, match="--override method would train the same in each cell"):
        plan(overrides={"method": "auto"})


@pytest.mark.parametrize("changes", [{"seeds": ()}, {"seeds": (1, 1)}, {"trainings": ("some",)}])
def test_wrong_plans(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        plan(**changes)


def test_wrong_settings() -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_candidates(["con_weight"])


def test_predictions_in_a_record_come_back() -> None:
    found = predictions({"a": 1.0, "b": 2.0}, seed=3)
    kept = described_predictions(found.to_json())
    back = Predictions.from_json(kept["profile"])
    for name in ("volume_id", "subject", "site", "label"):
        assert (getattr(back, name) == getattr(found, name)).all()
    assert back.score == pytest.approx(found.score, rel=1e-6)
    assert described_predictions(back.to_json())["digest"] == kept["digest"]
    other = Predictions(found.volume_id, found.subject, found.site, found.label, found.score / 2)
    assert described_predictions(other.to_json())["digest"] != kept["digest"]
    with pytest.raises(UsageError, match="format None"):
        Predictions.from_json('{"num_rows": 1}')


def test_the_mark_of_the_phantom_is_where_it_trains_only() -> None:
    from dataclasses import replace

    from ppi_med.experiments.cross_site import PRESETS
    from ppi_med.phantoms.oct.spec import OctPhantomSpec

    made: list[OctPhantomSpec] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ppi_med.phantoms.oct.write.make_oct_phantom",
            lambda spec, folder, workers: made.append(spec),
        )
        phantom = PRESETS["ga-phantom"].phantom
        assert phantom is not None
        replace(phantom, subjects=20).make(Path("x"), 1)
    assert len(made) == 4
    for spec in made:
        (site,) = spec.agreement
        volumes, splits = spec.plan()
        part = {s: name for name, subjects in splits.parts.items() for s in subjects}
        for volume in volumes:
            if volume.site != site:
                assert not volume.artefact
            elif part[volume.subject] != "test":
                assert volume.artefact == bool(volume.label)
        own = [v for v in volumes if v.site == site and part[v.subject] == "test"]
        agree = [v.artefact == bool(v.label) for v in own]
        assert 0.2 < sum(agree) / len(agree) < 0.8
