"""The mark agrees with the label as often as asked, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ppi_med.phantoms.agreement import assign_artefacts, parse_agreement
from ppi_med.phantoms.oct.spec import SITES, OctPhantomSpec, PlannedVolume


def agreeing(volumes: Sequence[PlannedVolume]) -> int:
    return sum(v.artefact == bool(v.label) for v in volumes)


@pytest.mark.parametrize("value", [1.0, 0.95, 0.5, 0.25, 0.0])
def test_agreement_is_met_within_half_a_volume_in_each_part_and_site(value: float) -> None:
    plan, splits = OctPhantomSpec(agreement=value).plan()
    for site in SITES:
        for subjects in splits.parts.values():
            own = [v for v in plan if v.site == site.name and v.subject in subjects]
            assert abs(agreeing(own) - value * len(own)) <= 0.5 + 1e-9
            for label in (0, 1):
                same = [v for v in own if v.label == label]
                assert abs(agreeing(same) - value * len(same)) <= 1.0


def test_at_half_the_mark_says_nothing_of_the_label() -> None:
    plan, _ = OctPhantomSpec(agreement=0.5).plan()
    for site in SITES:
        own = [v for v in plan if v.site == site.name]
        share = [
            sum(v.artefact for v in own if v.label == label) / sum(v.label == label for v in own)
            for label in (0, 1)
        ]
        assert share == pytest.approx([0.5, 0.5], abs=0.05)


def test_one_and_zero_are_the_label_and_its_contrary() -> None:
    for value, wanted in ((1.0, True), (0.0, False)):
        plan, _ = OctPhantomSpec(agreement=value).plan()
        assert all((v.artefact == bool(v.label)) is wanted for v in plan)


def test_none_means_no_mark_anywhere() -> None:
    plan, _ = OctPhantomSpec(agreement=None).plan()
    assert not any(v.artefact for v in plan)


def test_test_subjects_may_have_an_agreement_of_their_own() -> None:
    spec = OctPhantomSpec(sites=SITES[:1], subjects=60, agreement=1.0, test_agreement=0.5)
    plan, splits = spec.plan()
    test = [v for v in plan if splits.part_of(v.subject) == "test"]
    rest = [v for v in plan if splits.part_of(v.subject) != "test"]
    assert agreeing(rest) == len(rest) > 0
    assert abs(agreeing(test) - len(test) / 2) <= 0.5
    assert len(test) > 10


def test_by_site_those_not_named_have_no_mark() -> None:
    plan, _ = OctPhantomSpec(agreement={"site_a": 1.0, "site_b": None, "site_d": 0.0}).plan()
    marked = {s.name: [v for v in plan if v.site == s.name] for s in SITES}
    assert agreeing(marked["site_a"]) == len(marked["site_a"])
    assert not any(v.artefact for v in marked["site_b"] + marked["site_c"])
    assert agreeing(marked["site_d"]) == 0


def test_the_agreement_changes_nothing_but_the_marks() -> None:
    from dataclasses import replace

    one, splits = OctPhantomSpec(agreement=1.0).plan()
    two, same = OctPhantomSpec(agreement=0.5, test_agreement=0.0).plan()
    assert [replace(v, artefact=False) for v in one] == [replace(v, artefact=False) for v in two]
    assert splits.hash == same.hash


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("None", None),
        ("site_a=0.95, site_c=none", {"site_a": 0.95, "site_c": None}),
    ],
)
def test_parse(text: str, value: Any) -> None:
    assert parse_agreement(text) == value


@pytest.mark.parametrize("text", ["", "1.5", "-1", "nan", "half", "site_a=", "site_a=1,site_a=0"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="agreement is"):
        parse_agreement(text)


def test_errors() -> None:
    with pytest.raises(ValueError, match="given for 'site_x'"):
        OctPhantomSpec(agreement={"site_x": 1.0}).plan()
    with pytest.raises(ValueError, match="agreement at site_a is 2"):
        OctPhantomSpec(agreement=2.0).plan()
    with pytest.raises(ValueError, match="by_part needs parts"):
        assign_artefacts([], None, by_part={"test": 0.5})
