"""The weak segmentation of one network: choice on validation, scores on test, and bounds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from ppi_med.data.lidc.datasets import CropMode
from ppi_med.errors import UsageError
from ppi_med.experiments.weak_segmentation.cases import Case, View, views_of
from ppi_med.experiments.weak_segmentation.choice import REFERENCES, Chosen, RuleChoice, rule_grid
from ppi_med.experiments.weak_segmentation.maps import (
    LEVELS_HU,
    LEVELS_IN_DISC,
    RADII_MM,
    bright_component,
    bright_component_in_disc,
    disc_mask,
    network_maps,
    random_map,
    reader_agreement,
)
from ppi_med.pace import Pace
from ppi_med.segmentation.grid import Method, NetworkGrid, Normalise, normalised_ct
from ppi_med.segmentation.masking import Mask, MaskRule, Values, map_to_mask
from ppi_med.segmentation.scores import score_case

CEILING = "readers"
FLOORS = ("disc", "hu_component", "hu_component_in_disc", "random_map")
MODES: tuple[CropMode, ...] = ("centred", "shifted")
BETAS = (130.0, 500.0, 2000.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """One method on the test cases of one kind of crop.

    Attributes:
        method: name; one of `FLOORS`, `CEILING` or a saliency method.
        crops: "centred" or "shifted".
        rule: the chosen rule, in words; "" if nothing was chosen.
        options: the same as plain values.
        validation_dice: Dice of the choice; NaN if nothing was chosen.
        tried: number of options.
        views: the test cases.
        rows: scores, one per view, see `score_case`.
        masks: one per view; empty for the ceiling.
        maps: one per view, if there is a map.
        reason: why there are no scores, such as a network without a layer that GradCAM needs.
    """

    method: str
    crops: str
    rule: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    validation_dice: float = float("nan")
    tried: int = 0
    views: Sequence[View] = ()
    rows: Sequence[Mapping[str, float]] = ()
    masks: Sequence[Mask] = ()
    maps: Sequence[Values] = ()
    reason: str = ""


class Study:
    """Judges maps as segmentations on validation and test cases.

    Rules, radii and thresholds are chosen on the validation cases, for each kind of crop, and used
    unchanged on the test cases.

    Args:
        cases: cases of validation and test; cases of other parts are left out.
        grid: grid of the network's images.
        seed: seed of the shifts and the random maps.
        reference: "union" or "majority": the reference for the choice.
        rules: rules to choose from; default `rule_grid`.
        betas: betas of the random walker, tried on the best rule; none: not tried.
        distances: also measure HD95, which takes most of the time.

    Raises:
        ValueError: if one of the two parts has no case, or they share a patient.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        grid: NetworkGrid,
        *,
        seed: int = 0,
        reference: str = "union",
        rules: Sequence[MaskRule] | None = None,
        betas: Sequence[float] = BETAS,
        distances: bool = True,
    ) -> None:
        self.grid, self.seed, self.reference = grid, seed, reference
        self.distances = distances
        self.rules = list(rules) if rules is not None else rule_grid()
        self.betas = tuple(betas)
        parts = {name: [c for c in cases if c.part == name] for name in ("validation", "test")}
        for name, members in parts.items():
            if not members:
                raise ValueError(f"no case is of the part {name}, expected some to study.")
        self.parts = parts
        self.held_out = frozenset(case.subject for case in parts["test"])
        self._views: dict[tuple[str, str], list[View]] = {}
        self._choices: dict[str, RuleChoice] = {}
        # A shared patient is refused now, not after an hour of maps.
        self.choice("centred")

    def all(
        self,
        network: nn.Module,
        methods: Mapping[str, Method],
        modes: Sequence[CropMode] = MODES,
        **options: Any,
    ) -> list[Outcome]:
        """Return ceiling, floors and every method, for each kind of crop."""
        found, pace = (
            [],
            Pace(len(modes) * (2 + len(methods)), "ceiling, floors and methods judged"),
        )
        for mode in modes:
            found.append(self.ceiling(mode))
            pace.step()
            found += self.floors(mode)
            pace.step()
            for name, method in methods.items():
                found.append(self.method(name, network, method, mode, **options))
                pace.step()
        return found

    def views(self, part: str, mode: CropMode) -> list[View]:
        """Return the views of a part, the same for every method."""
        if (part, mode) not in self._views:
            self._views[part, mode] = views_of(self.parts[part], self.grid, mode, self.seed)
        return self._views[part, mode]

    def choice(self, mode: CropMode) -> RuleChoice:
        """Return the chooser on the validation views."""
        if mode not in self._choices:
            views = self.views("validation", mode)
            self._choices[mode] = RuleChoice(views, self.held_out, self.reference)
        return self._choices[mode]

    def ceiling(self, mode: CropMode) -> Outcome:
        """Return the readers' agreement: Dice over their pairs, and against their union."""
        views = self.views("test", mode)
        return Outcome(
            CEILING,
            mode,
            views=views,
            rows=[reader_agreement(v, distances=self.distances) for v in views],
        )

    def floors(self, mode: CropMode) -> list[Outcome]:
        """Return the masks without a map: disc in the middle, bright tissue there, random map."""
        level = "above {:g} HU"
        return [
            self._without_map("disc", mode, RADII_MM, disc_mask, "radius {:g} mm"),
            self._without_map("hu_component", mode, LEVELS_HU, bright_component, level),
            self._without_map(
                "hu_component_in_disc",
                mode,
                LEVELS_IN_DISC,
                bright_component_in_disc,
                f"{level}, within {{:g}} mm",
            ),
            self._with_maps(
                "random_map",
                mode,
                lambda views: [random_map(v, self.grid, self.seed) for v in views],
            ),
        ]

    def method(
        self,
        name: str,
        network: nn.Module,
        method: Method,
        mode: CropMode,
        *,
        normalise: Normalise = normalised_ct,
        **options: Any,
    ) -> Outcome:
        """Return the outcome of a saliency method, or why it has no map for this network.

        Args:
            name: name of the method.
            network: see `network_maps`.
            method: saliency by `method(network, image, target)`.
            mode: kind of crops.
            normalise: from HU to the network's values.
            options: options of `network_maps`.
        """

        def maps_of(views: Sequence[View]) -> list[Values]:
            return network_maps(network, method, views, self.grid, normalise=normalise, **options)

        from ppi_med.saliency import UnsupportedOperationError

        try:
            maps_of(self.views("validation", mode)[:1])
        except (ValueError, UnsupportedOperationError) as error:
            logger.warning("%s gives no map: %s", name, error)
            return Outcome(name, mode, reason=str(error))
        return self._with_maps(name, mode, maps_of)

    def _with_maps(
        self, name: str, mode: CropMode, maps_of: Callable[[Sequence[View]], list[Values]]
    ) -> Outcome:
        held, tested = self.views("validation", mode), self.views("test", mode)
        chosen = self.choice(mode).best_rule(
            maps_of(held), self.rules, betas=self.betas, pictures=[picture(view) for view in held]
        )
        maps = maps_of(tested)
        masks = [
            map_to_mask(values, chosen.option, spacing_mm=view.case.spacing_mm, image=picture(view))
            for values, view in zip(maps, tested, strict=True)
        ]
        found = self._outcome(name, mode, chosen, masks, chosen.option.name)
        return Outcome(**{**vars(found), "options": chosen.option.to_dict(), "maps": maps})

    def _without_map(
        self,
        name: str,
        mode: CropMode,
        options: Iterable[Any],
        mask_of: Callable[[Any, View], Mask],
        words: str,
    ) -> Outcome:
        chosen = self.choice(mode).best_of(options, mask_of)
        masks = [mask_of(chosen.option, view) for view in self.views("test", mode)]
        numbers = chosen.option if isinstance(chosen.option, tuple) else (chosen.option,)
        found = self._outcome(name, mode, chosen, masks, words.format(*numbers))
        return Outcome(**{**vars(found), "options": {"value": chosen.option}})

    def _outcome(
        self, name: str, mode: CropMode, chosen: Chosen[Any], masks: list[Mask], rule: str
    ) -> Outcome:
        views = self.views("test", mode)
        rows = [
            score_case(mask, view.references, view.case.spacing_mm, distances=self.distances)
            for mask, view in zip(masks, views, strict=True)
        ]
        # A case with an empty majority has no Dice against it.
        mean = float(np.nanmean([row.get(f"dice_{self.reference}", np.nan) for row in rows]))
        logger.info("%s, %s: Dice %.3f (%s)", name, mode, mean, rule)
        return Outcome(
            name,
            mode,
            rule=rule,
            validation_dice=chosen.dice,
            tried=chosen.tried,
            views=views,
            rows=rows,
            masks=masks,
        )


def modes_of(text: str) -> list[CropMode]:
    """Return kinds of crops from comma-separated names.

    Raises:
        UsageError: for another name.

    Examples:
        >>> modes_of("shifted, centred")
        ['shifted', 'centred']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    found: list[CropMode] = [mode for name in names for mode in MODES if mode == name]
    if not names or len(found) != len(names):
        raise UsageError(f"crops is {text!r}, expected centred, shifted or both.")
    return found


def reference_of(text: str) -> str:
    """Return the given reference for the choice of a rule.

    Raises:
        UsageError: for another name.

    Examples:
        >>> reference_of("majority")
        'majority'
    """
    if text not in REFERENCES:
        raise UsageError(f"reference is {text!r}, expected {' or '.join(REFERENCES)}.")
    return text


def picture(view: View) -> Values:
    """Return the image in 0 to 1 over -1000 to 400 HU, for the random walker and pictures."""
    return np.asarray((np.clip(view.image.astype(np.float64), -1000, 400) + 1000) / 1400)
