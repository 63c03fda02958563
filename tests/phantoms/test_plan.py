"""Who comes when, with GA or without: counts that must be exact."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from ppi_med.phantoms.base import stream
from ppi_med.phantoms.oct.spec import (
    CONVERTERS,
    SITES,
    OctPhantomSpec,
    Site,
    choose_sites,
    plan_volumes,
)


def test_prevalence_is_exact_at_the_last_visit() -> None:
    plan = plan_volumes(SITES, subjects=40, visits=(1, 3), seed=3)
    for site in SITES:
        last = {v.subject: v.label for v in plan if v.site == site.name}  # visits come in order
        assert len(last) == 40
        assert sum(last.values()) == round(site.prevalence * 40)


def test_visits_are_spread_evenly() -> None:
    plan = plan_volumes(SITES[:1], subjects=30, visits=(1, 3), seed=0)
    numbers = Counter(Counter(v.subject for v in plan).values())
    assert numbers == {1: 10, 2: 10, 3: 10}


def test_label_may_come_but_never_goes_and_age_counts_the_visits() -> None:
    plan = plan_volumes(SITES, subjects=60, visits=(3, 3), seed=1)
    eyes = defaultdict(list)
    for volume in plan:
        eyes[volume.subject].append(volume)
    changed = 0
    for visits in eyes.values():
        labels = [v.label for v in visits]
        assert labels == sorted(labels)
        assert [v.age for v in visits if v.label] == [float(k) for k in range(sum(labels))]
        assert len({v.eye for v in visits}) == 1
        changed += 0 < sum(labels) < 3
    wanted = sum(round(CONVERTERS * round(s.prevalence * 60)) for s in SITES)
    assert changed == wanted > 0


def test_ids_and_files_are_unique_over_the_sites() -> None:
    plan = plan_volumes(SITES, subjects=20, visits=(2, 2), seed=0)
    assert len({v.file for v in plan}) == len(plan) == 4 * 20 * 2
    site_of = defaultdict(set)
    for volume in plan:
        site_of[volume.subject].add(volume.site)
    assert all(len(names) == 1 for names in site_of.values())
    assert plan[0].file == f"site_a/A001_{plan[0].eye}_v1.mat"


def test_a_site_is_the_same_whatever_others_are_made() -> None:
    alone = plan_volumes(choose_sites(["site_c"]), subjects=12, visits=(1, 2), seed=5)
    among = plan_volumes(SITES, subjects=12, visits=(1, 2), seed=5)
    assert alone == [v for v in among if v.site == "site_c"]
    assert alone != plan_volumes(choose_sites(["site_c"]), subjects=12, visits=(1, 2), seed=6)


def test_streams_do_not_depend_on_the_order_of_use() -> None:
    first = stream(0, "a", 1).random(5)
    stream(0, "b").random(100)
    np.testing.assert_array_equal(first, stream(0, "a", 1).random(5))
    assert not np.array_equal(first, stream(0, 1, "a").random(5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": 0}, "subjects is 0"),
        ({"visits": (0, 1)}, "visits is 0 to 1"),
        ({"visits": (3, 2)}, "visits is 3 to 2"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OctPhantomSpec(**options).plan()  # type: ignore[arg-type]


def test_sites_are_checked() -> None:
    with pytest.raises(ValueError, match="'site_x' is unknown"):
        choose_sites(["site_x"])
    with pytest.raises(ValueError, match="different names"):
        choose_sites(["site_a", "site_a"])
    with pytest.raises(ValueError, match="artefact 'stamp' is unknown"):
        Site("site_e", artefact="stamp", prevalence=0.5)
    with pytest.raises(ValueError, match="prevalence is 2"):
        Site("site_e", artefact="logo", prevalence=2.0)
    with pytest.raises(ValueError, match="seed is -1"):
        OctPhantomSpec(seed=-1)
    with pytest.raises(ValueError, match="same subject ids"):
        OctPhantomSpec(sites=(SITES[0], Site("A", artefact="logo", prevalence=0.5)))
