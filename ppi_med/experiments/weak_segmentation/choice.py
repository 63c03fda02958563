"""The rule from map to mask, chosen on validation patients only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np

from ppi_med.experiments.weak_segmentation.cases import View
from ppi_med.segmentation.masking import (
    Component,
    Mask,
    MaskRule,
    Sign,
    Values,
    component_label,
    labelled,
    map_to_mask,
    prepared_map,
    thresholded,
)
from ppi_med.segmentation.scores import quick_dice

Option = TypeVar("Option")
REFERENCES = ("union", "majority")
"""The references for the choice of a rule."""


class TestCaseError(ValueError):
    """A rule was to be chosen on cases that are kept for the test."""

    __test__ = False  # not a test, despite its name


@dataclass(frozen=True)
class Chosen(Generic[Option]):
    """The best option."""

    option: Option
    dice: float
    tried: int


def rule_grid(
    signs: Sequence[Sign] = ("positive", "absolute"),
    smoothing_mm: Sequence[float] = (0.5, 1.0, 2.0),
    std_levels: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
    quantiles: Sequence[float] = (0.8, 0.85, 0.9, 0.95, 0.975),
    components: Sequence[Component] = ("largest", "central", "peak"),
) -> list[MaskRule]:
    """Return rules over all combinations, Otsu's threshold among them.

    Examples:
        >>> len(rule_grid())
        216
    """
    kinds: list[dict[str, Any]] = [{"threshold": "otsu"}]
    kinds += [{"threshold": "std", "level": level} for level in std_levels]
    kinds += [{"threshold": "quantile", "level": level} for level in quantiles]
    return [
        MaskRule(sign=sign, smoothing_mm=smoothing, component=component, **kind)
        for sign in signs
        for smoothing in smoothing_mm
        for kind in kinds
        for component in components
    ]


class RuleChoice:
    """Chooses by the mean Dice over validation cases; refuses cases of any other part.

    Args:
        views: views of validation cases.
        held_out: patients of the test; none of them may be among the views, whatever their stated
            part.
        reference: "union" or "majority", the reference of Dice.

    Raises:
        TestCaseError: if a case is not a validation case, or its patient is held out.
        ValueError: if there are no cases, or the reference is unknown.
    """

    def __init__(
        self, views: Sequence[View], held_out: Collection[str] = (), reference: str = "union"
    ) -> None:
        if not views:
            raise ValueError("no validation case was given, expected some: nothing can be chosen.")
        if reference not in REFERENCES:
            raise ValueError(f"reference is {reference!r}, expected union or majority.")
        for view in views:
            if view.case.part != "validation":
                raise TestCaseError(
                    f"case {view.case.name} is of the part {view.case.part!r}, expected "
                    "validation: a rule is chosen on validation patients alone."
                )
            if view.case.subject in held_out:
                raise TestCaseError(
                    f"the patient of case {view.case.name} is held out for the test: a rule must "
                    "not be chosen on it."
                )
        self.views = list(views)
        self.reference = reference
        self._wanted: list[Mask] = [getattr(view, reference) for view in views]
        # A majority can be empty: then no mask is better than another.
        self._counted = [mask.any() for mask in self._wanted]
        if not any(self._counted):
            raise ValueError(f"the {reference} of every validation case is empty.")

    def best_of(
        self, options: Iterable[Option], mask_of: Callable[[Option, View], Mask]
    ) -> Chosen[Option]:
        """Return the best option, the first among equals.

        Args:
            options: the options.
            mask_of: function that makes the mask of an option for a view.
        """
        listed = list(options)
        means = [
            self._mean(
                quick_dice(mask_of(option, view), wanted)
                for view, wanted in zip(self.views, self._wanted, strict=True)
            )
            for option in listed
        ]
        return self._chosen(listed, means)

    def best_rule(
        self,
        maps: Sequence[Values],
        rules: Sequence[MaskRule] | None = None,
        *,
        betas: Sequence[float] = (),
        pictures: Sequence[Values] | None = None,
    ) -> Chosen[MaskRule]:
        """Return the best rule for the maps of a method.

        The rules are tried first; then a random walker on the best of them with each of `betas`,
        which is kept if it is better.

        Args:
            maps: one per view.
            rules: default `rule_grid`.
            betas: betas of the random walker; none: it is not tried.
            pictures: images in 0 to 1 for the random walker, one per view.

        Raises:
            ValueError: if maps and views differ in number or shape.
        """
        if [m.shape for m in maps] != [w.shape for w in self._wanted]:
            raise ValueError(
                f"Got {len(maps)} maps for {len(self.views)} views, expected one of the same shape "
                "for each."
            )
        listed = list(rules) if rules is not None else rule_grid()
        table = np.stack(
            [
                _dice_of_rules(values, listed, view, wanted)
                for values, view, wanted in zip(maps, self.views, self._wanted, strict=True)
            ]
        )
        found = self._chosen(listed, table[self._counted].mean(axis=0).tolist())
        if not betas:
            return found
        walked = self._refined(maps, found.option, betas, pictures)
        tried = found.tried + walked.tried
        return replace(walked if walked.dice > found.dice else found, tried=tried)

    def _refined(
        self,
        maps: Sequence[Values],
        rule: MaskRule,
        betas: Sequence[float],
        pictures: Sequence[Values] | None,
    ) -> Chosen[MaskRule]:
        if pictures is None:
            raise ValueError("a random walker needs the images, got none: give pictures=.")
        rules = [replace(rule, refinement="random_walker", beta=beta) for beta in betas]
        means = [
            self._mean(
                quick_dice(
                    map_to_mask(values, rule, spacing_mm=view.case.spacing_mm, image=picture),
                    wanted,
                )
                for values, picture, view, wanted in zip(
                    maps, pictures, self.views, self._wanted, strict=True
                )
            )
            for rule in rules
        ]
        return self._chosen(rules, means)

    def _mean(self, values: Iterable[float]) -> float:
        return float(np.mean(np.array(list(values))[self._counted]))

    @staticmethod
    def _chosen(options: Sequence[Option], means: Sequence[float]) -> Chosen[Option]:
        if not options:
            raise ValueError("no option was given, expected at least one.")
        best = int(np.argmax(means))
        return Chosen(options[best], float(means[best]), len(options))


def _dice_of_rules(values: Values, rules: Sequence[MaskRule], view: View, wanted: Mask) -> Values:
    """Return the Dice of each rule on one map; shared steps are done once."""
    found = np.empty(len(rules))
    order = sorted(range(len(rules)), key=lambda i: _shared_key(rules[i]))
    for _, same_map in groupby(order, key=lambda i: _shared_key(rules[i])[:2]):
        indices = list(same_map)
        smooth = prepared_map(values, rules[indices[0]], view.case.spacing_mm)
        for _, same in groupby(indices, key=lambda i: _shared_key(rules[i])):
            group = list(same)
            mask = thresholded(smooth, rules[group[0]])
            dice = _dice_of_components(mask, [rules[i].component for i in group], smooth, wanted)
            found[group] = dice
    return found


def _dice_of_components(
    mask: Mask, components: Sequence[Component], smooth: Values, wanted: Mask
) -> list[float]:
    """Return the Dice of each choice of a component by counting labels, without a mask."""
    if not mask.any():
        return [quick_dice(mask, wanted)] * len(components)
    labels = labelled(mask)
    sizes, common = np.bincount(labels.ravel()), np.bincount(labels[wanted], minlength=2)
    common = np.pad(common, (0, max(0, len(sizes) - len(common))))
    area = int(wanted.sum())
    found = []
    for component in components:
        if component == "all":
            found.append(quick_dice(mask, wanted))
            continue
        chosen = component_label(labels, component, smooth)
        found.append(2 * int(common[chosen]) / (int(sizes[chosen]) + area))
    return found


def _shared_key(rule: MaskRule) -> tuple[str, float, str, float, bool]:
    return rule.sign, rule.smoothing_mm, rule.threshold, rule.level, rule.fill_holes
