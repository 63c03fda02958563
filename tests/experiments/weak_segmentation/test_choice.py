from __future__ import annotations

import numpy as np
import pytest

from ppi_med.experiments.weak_segmentation.cases import View, views_of
from ppi_med.experiments.weak_segmentation.choice import RuleChoice, TestCaseError, rule_grid
from ppi_med.segmentation.grid import NetworkGrid
from ppi_med.segmentation.masking import MaskRule, map_to_mask
from ppi_med.segmentation.scores import quick_dice
from tests.segmentation.made import made_case, made_cases

GRID = NetworkGrid(20)


def validation() -> list[View]:
    return views_of([c for c in made_cases() if c.part == "validation"], GRID)


def noisy_maps(views: list[View], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [v.union + rng.normal(0, 0.6, v.union.shape) for v in views]


@pytest.mark.parametrize("part", ["test", "training"])
def test_other_parts_are_refused(part: str) -> None:
    views = [*validation(), *views_of([made_case(7, part)], GRID)]
    with pytest.raises(TestCaseError, match="expected validation"):
        RuleChoice(views)


def test_a_held_out_patient_is_refused_whatever_the_part_says() -> None:
    views = views_of([made_case(1, "validation", subject="hidden")], GRID)
    with pytest.raises(TestCaseError, match="held out"):
        RuleChoice(views, {"hidden"})


def test_nothing_to_choose_on() -> None:
    with pytest.raises(ValueError, match="no validation case"):
        RuleChoice([])
    with pytest.raises(ValueError, match="union or majority"):
        RuleChoice(validation(), reference="reader1")
    with pytest.raises(ValueError, match="one of the same shape"):
        RuleChoice(validation()).best_rule([np.zeros((3, 3))])
    with pytest.raises(ValueError, match="no option"):
        RuleChoice(validation()).best_rule(noisy_maps(validation()), [])


def test_the_fast_choice_equals_trying_each_rule() -> None:
    views = validation()
    maps = noisy_maps(views)
    rules = [
        *rule_grid(smoothing_mm=(0.5, 2.0), std_levels=(1.0,), quantiles=(0.9,)),
        MaskRule(component="all"),
        MaskRule("signed", 1.0, "std", 50.0),
        MaskRule(fill_holes=False, threshold="quantile", level=0.6, component="largest"),
    ]
    slow = [
        np.mean(
            [
                quick_dice(map_to_mask(m, rule, spacing_mm=v.case.spacing_mm), v.union)
                for m, v in zip(maps, views, strict=True)
            ]
        )
        for rule in rules
    ]
    found = RuleChoice(views).best_rule(maps, rules)
    assert found.dice == pytest.approx(max(slow), abs=1e-12)
    assert found.option == rules[int(np.argmax(slow))]
    assert found.tried == len(rules)
    # Each rule alone gives its own figure, so that a wrong order of the table would show.
    for rule, dice in list(zip(rules, slow, strict=True))[::7]:
        assert RuleChoice(views).best_rule(maps, [rule]).dice == pytest.approx(dice, abs=1e-12)


def test_the_random_walker_is_kept_where_it_is_better() -> None:
    views = validation()
    maps = noisy_maps(views)
    pictures = [np.where(view.union, 0.9, 0.1) for view in views]
    plain = RuleChoice(views).best_rule(maps)
    walked = RuleChoice(views).best_rule(maps, betas=(500.0,), pictures=pictures)
    assert walked.dice > plain.dice
    assert walked.option.refinement == "random_walker"
    assert walked.tried == plain.tried + 1
    useless = [np.zeros_like(p) for p in pictures]
    kept = RuleChoice(views).best_rule(maps, betas=(500.0,), pictures=useless)
    assert kept.dice >= plain.dice
    with pytest.raises(ValueError, match="needs the images"):
        RuleChoice(views).best_rule(maps, betas=(500.0,))


def test_an_empty_majority_has_no_part_in_the_choice() -> None:
    views = validation()
    case = views[0].case
    nothing = type(case)(**{**vars(case), "majority": np.zeros_like(case.majority)})
    with_it = [*views_of([nothing], GRID), *views[1:]]
    maps = noisy_maps(views)
    rules = [MaskRule("signed", 1.0, "std", 50.0), *rule_grid(signs=("positive",))[:6]]
    all_of = RuleChoice(with_it, reference="majority").best_rule(maps, rules)
    without = RuleChoice(views[1:], reference="majority").best_rule(maps[1:], rules)
    assert (all_of.option, all_of.dice) == (without.option, pytest.approx(without.dice))
    with pytest.raises(ValueError, match="every validation case is empty"):
        RuleChoice(with_it[:1], reference="majority")
