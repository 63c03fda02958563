"""Training methods by name: plain training, PPI with each mask, and controls of the same area.

One key of a bundle, `method`, chooses among them, so that experiments differ in that key only. Each
is a line of `RECIPES` (or a baseline); `Options` lists their settings.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from ignite.engine import Engine

from ppi_med.baselines import BASELINES, Baseline, baseline, baseline_options
from ppi_med.errors import UsageError
from ppi_med.handlers.clarc import ClarcHandler
from ppi_med.handlers.places import PLACE_METHODS, PlaceData, PlaceHandler
from ppi_med.handlers.ppi import PPIHandler
from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    ComplementMask,
    HardMask,
    Mask,
    PPITerms,
    RandomPlace,
    SaliencyToMap,
    SharedPlace,
    SoftMask,
    StepWeight,
    TopKMask,
    WarmUpWeight,
    Weight,
)
from ppi_med.saliency import by_name

logger = logging.getLogger(__name__)

_SHARED_K = 2.5
# Table 5, and the highest points (CUB).
_MASKS: dict[str, Callable[..., Mask]] = {
    "soft": SoftMask,
    "adaptive": partial(AdaptiveMask, k=_SHARED_K),
    "hard": HardMask,
    "box": BoxMask,
    "topk": TopKMask,
}


class PlainTraining:
    """No intervention: replaces PPI in a list of handlers."""

    def attach(self, engine: Engine) -> None:
        """Add nothing to the trainer."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""


@dataclass(frozen=True)
class Options:
    """The settings of the recipes, by name, in addition to the options of `PPIHandler`.

    Attributes:
        seed: seed of the draws of partners and places.
        slice_axis: axis of `(N, C, *spatial)` whose positions are drawn again for each sample, such
            as the B-scans of a volume: the shared place is averaged over it, and smoothing leaves
            it out.
        smooth_sigma: smoothing of the map in pixels, before thresholds.
        con_weight: weight of L_con.
        con_step: a step of that weight, such as `{"factor": 100, "after_epoch": 20}` (CUB).
        ad_weight: weight of L_ad.
        reg_weight: weight of L_reg, the sum of the map; 0: it is only recorded.
        reg_per: `image`: that sum, or `element`: the mean, which does not depend on the image size.
        warm_up_epochs: epochs over which both weights grow to their full size.
        mask: `soft`, `adaptive`, `hard`, `box` or `topk`, if the method's name does not say it.
        mask_options: options of that mask, such as `{"k": 1000}`.
        fill: fill of removed content, if the method does not set it.
        pairing: source of the mask of x', if the method does not set it.
        exchange_with: source of exchanged content, `any` or `other_class`; within a class, an
            artefact that follows the class would be exchanged for itself.
        momentum: momentum of the shared place's running mean.
        share: share of the image that x' loses at the shared place.
        release: how slowly a held shared place fades (`SharedPlace`): an unlearned place must stay
            covered, or it is learned again.
        keep: share of the image that `ppi_wbp_context` keeps.
    """

    seed: int = 0
    slice_axis: int | None = None
    smooth_sigma: float = 1.5
    con_weight: float = 0.3
    con_step: Mapping[str, Any] | None = None
    ad_weight: float = 1.0
    reg_weight: float = 0.0
    reg_per: str = "image"
    warm_up_epochs: int = 2
    mask: str = "soft"
    mask_options: Mapping[str, Any] | None = None
    fill: str = "zero"
    pairing: str = "any"
    exchange_with: str = "other_class"
    momentum: float = 0.95
    share: float = 0.03
    release: float = 0.999
    keep: float = 0.4

    def chosen_mask(self) -> Mask:
        """Return the requested mask."""
        if self.mask not in _MASKS:
            raise UsageError(f"mask is {self.mask!r}, expected one of: {', '.join(_MASKS)}.")
        return _MASKS[self.mask](**(self.mask_options or {}))

    def shared_place(self) -> SharedPlace:
        """Return the shared place, averaged over samples and slices."""
        axes = (0,) if self.slice_axis is None else (0, self.slice_axis)
        return SharedPlace(momentum=self.momentum, axes=axes, release=self.release)

    def share_of_points(self) -> Mask:
        """Return the mask of the shared place: a fixed share.

        A threshold of mean + k std can be above everything once the shared map has spread; then
        L_ad removes nothing.
        """
        return TopKMask(fraction=self.share)

    def common_terms(self) -> dict[str, Any]:
        """Return the arguments of `PPITerms` that every recipe has."""
        con = _warmed_up(self.con_weight, self.warm_up_epochs)
        return {
            "to_map": SaliencyToMap(
                smooth_sigma=self.smooth_sigma, smooth_dims=None if self.slice_axis is None else 2
            ),
            "con_weight": StepWeight(con, **self.con_step) if self.con_step else con,
            "ad_weight": _warmed_up(self.ad_weight, self.warm_up_epochs),
            "reg_weight": self.reg_weight,
            "reg_per": self.reg_per,
            "fill_pairing": self.exchange_with,
            "seed": self.seed,
        }


_COMMON = frozenset(
    {"seed", "slice_axis", "smooth_sigma", "warm_up_epochs"}
    | {"con_weight", "con_step", "ad_weight", "reg_weight", "reg_per", "exchange_with"}
)
_PLACE = frozenset({"momentum", "release", "share"})


@dataclass(frozen=True)
class Recipe:
    """The parts of a training method.

    Attributes:
        tag: the kind of its mask, for tags and tables; None: the requested one.
        saliency: name of the method that makes the map.
        mask: T of x*; None: there is no L_con.
        mask_prime: T of x', if it differs.
        fill: fill of what is removed; None: the requested one.
        pairing: source of the mask of x'; None: the requested one.
        terms: further arguments of `PPITerms`.
        handler: options of `PPIHandler`; the user's have priority.
        options: names of `Options` that it reads, in addition to the common ones.
    """

    tag: str | None
    saliency: str = "wbp"
    mask: Callable[[Options], Mask] | None = None
    mask_prime: Callable[[Options], Mask] | None = None
    fill: str | None = None
    pairing: str | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)
    handler: Mapping[str, Any] = field(default_factory=dict)
    options: frozenset[str] = frozenset()

    def make(self, options: Options, **handler_options: Any) -> PPIHandler:
        """Return the handler."""
        shared = options.shared_place() if self.pairing == "shared" else None
        terms: dict[str, Any] = {
            **options.common_terms(),
            "fill": self.fill or options.fill,
            "pairing": shared or self.pairing or options.pairing,
            **self.terms,
        }
        for name in ("mask", "mask_prime"):
            make = getattr(self, name)
            if make is not None:
                terms[name] = make(options)
        own = {"slice_axis": options.slice_axis} if self.saliency == "gradcam" else {}
        saliency = by_name(self.saliency, **own)
        return PPIHandler(saliency, PPITerms(**terms), **{**self.handler, **handler_options})


def _with_map(saliency: str) -> Recipe:
    """As printed except for the bounded L_con, with a method's map; mask, fill, pairing free."""
    read = frozenset({"mask", "mask_options", "fill", "pairing"})
    return Recipe(None, saliency, Options.chosen_mask, options=read)


def _printed(mask: str) -> Recipe:
    """x* masked by the image's own map, x' by another's, with a mask of Table 5."""
    read = frozenset({"fill", "pairing"})
    return Recipe(mask, mask=lambda options: _MASKS[mask](), options=read)


def _control(fill: str) -> Recipe:
    """The area and shape of the shared place, but at a random place; no L_con."""
    return Recipe(
        "random",
        mask=lambda options: RandomPlace(options.share_of_points(), seed=options.seed),
        fill=fill,
        pairing="shared",
        terms={"contrasts": ("ad",)},
        handler={"differentiable": False},
        options=_PLACE,
    )


def _shared(
    terms: Mapping[str, Any] | None = None, *, fill: str = "exchange", **handler: Any
) -> Recipe:
    """The shared place; its cheaper schedules are options of the handler or the terms."""
    return Recipe(
        "adaptive",
        mask=lambda options: AdaptiveMask(k=_SHARED_K),
        mask_prime=Options.share_of_points,
        fill=fill,
        pairing="shared",
        terms={"spare_shared": True, **(terms or {})},
        handler=handler,
        options=_PLACE,
    )


def _context(tag: str, kept: Callable[[Options], Mask]) -> Recipe:
    """Keeps what the map shows, exchanges the rest: for shortcuts around the object."""
    return Recipe(
        tag,
        mask_prime=lambda options: ComplementMask(kept(options)),
        fill="exchange",
        pairing="own",
        terms={"contrasts": ("ad",)},
        handler={"differentiable": False},
        options=frozenset({"keep"}),
    )


def _kept(options: Options) -> Mask:
    return TopKMask(fraction=options.keep)


def _kept_anywhere(options: Options) -> Mask:
    return RandomPlace(_kept(options), seed=options.seed)


RECIPES: Mapping[str, Recipe] = {
    "random_mask": _control("zero"),
    "random_exchange": _control("exchange"),
    "random_context": _context("random", _kept_anywhere),
    "ppi_gradient": _with_map("gradient_absolute"),
    "ppi_lrp": _with_map("lrp_epsilon_plus"),
    "ppi_gradcam": _with_map("gradcam"),
    "ppi_wbp": _with_map("wbp"),
    **{f"ppi_wbp_{mask}": _printed(mask) for mask in _MASKS},
    "ppi_wbp_shared": _shared(),
    "ppi_wbp_shared_stop": _shared(differentiable=False),
    "ppi_wbp_shared_alternate": _shared({"alternate": True}, differentiable=False),
    "ppi_wbp_shared_every2": _shared(every=2),
    "ppi_wbp_shared_zero": _shared(fill="zero"),
    "ppi_wbp_exchange": Recipe(
        "adaptive",
        mask=lambda options: AdaptiveMask(k=_SHARED_K),
        fill="exchange",
        pairing="any",
    ),
    "ppi_wbp_context": _context("rest", _kept),
}
METHODS = ("plain", *BASELINES, *RECIPES, *PLACE_METHODS)

_OPTIONS = frozenset(one.name for one in fields(Options))
_OF_HANDLER = frozenset(inspect.signature(PPIHandler).parameters) - {"saliency", "terms"}
_OF_PLACES = frozenset(inspect.signature(PlaceHandler).parameters) - {"kind", "data"}

Method = PPIHandler | PlaceHandler | PlainTraining | Baseline


def training_method(name: str, *, places: Any = None, **options: Any) -> Method:
    """Return the handler of a training method.

    Args:
        name: `plain`; those of `ppi_med.baselines`, whose options are their own;
            `random_mask` and `random_exchange` (controls: the mask's area at a random place),
            `random_context` (that of `ppi_wbp_context`);
            `ppi_gradient`, `ppi_lrp` (z+ for convolutions), `ppi_gradcam`, `ppi_wbp` (zero
            fill, another sample's map, as printed except for the bounded L_con), with the requested
            `mask`; `ppi_wbp_soft`, `_adaptive`, `_hard`, `_box` (Table 5), `_topk`: `ppi_wbp` with
            that mask; `ppi_wbp_shared` (shared place with exchange) and its variants: `_stop`
            (constant map), `_alternate` (constant map, one contrast a step), `_every2` (PPI in
            every second step), `_zero` (zero fill), and `ppi_wbp_exchange` (exchange, own places);
            `ppi_wbp_context` (x' keeps what its map shows, the rest is exchanged; no L_con);
            `ppi_wbp_place` (a search for a shortcut's place first, then that place exchanged) and
            its variants: `_coin` (one forward a step), `_blind` (the place is at 0 in all images);
            `ppi_wbp_style` (style exchanged); `neutral` (removes a device's texture, or a mark that
            moves, from all images, in training and afterwards); `auto` (what the search
            recommends); `clarc` (plain training, the direction of the place's content is projected
            out of the features afterwards).
        places: what a search reads and writes, and the images without labels of `d_bat`, see
            `ppi_med.handlers.PlaceData`.
        options: options of `Options`, `PPIHandler` and `PlaceHandler`; a bundle's
            options for one method may stay if another is chosen, which ignores those that it does
            not read.

    Returns:
        The handler.

    Raises:
        UsageError: if the name or an option is unknown.

    Examples:
        >>> training_method("ppi_wbp_box").terms.mask.k
        1.2
        >>> training_method("ppi_gradcam", mask="topk", mask_options={"k": 50}).terms.mask.k
        50
        >>> training_method("plain").state_dict()
        {}
    """
    if name in BASELINES:
        own = set(baseline_options(name))
        _refuse_unknown(name, options, {"seed", "slice_axis"} | own)
        if "unlabelled" in own:
            options = {"unlabelled": PlaceData.of(places).unlabelled, **options}
        return baseline(name, **options)
    if name not in METHODS:
        raise UsageError(
            f"method is {name!r}, expected one of: {', '.join(METHODS)}{_near(name, METHODS)}."
        )
    _refuse_unknown(name, options, _OPTIONS | _OF_HANDLER | _OF_PLACES)
    if name == "plain":
        return PlainTraining()
    if name in PLACE_METHODS:
        for_place: dict[str, Any] = {**PLACE_METHODS[name]}
        for_place |= {key: value for key, value in options.items() if key in _OF_PLACES}
        return (ClarcHandler if name == "clarc" else PlaceHandler)(data=places, **for_place)
    recipe = RECIPES[name]
    unread = sorted(set(options) & _OPTIONS - _COMMON - recipe.options)
    if unread:
        logger.info("The method %s does not read: %s.", name, ", ".join(unread))
    return recipe.make(
        Options(**{k: v for k, v in options.items() if k in _OPTIONS}),
        **{k: v for k, v in options.items() if k in _OF_HANDLER},
    )


def configured_method(
    name: str, options: Mapping[str, Any] | None = None, **defaults: Any
) -> Method:
    """Return the handler of a training method whose options are in one key of a configuration.

    Args:
        name: see `training_method`.
        options: options of `training_method`, by name; they have priority over the defaults.
        defaults: likewise.

    Raises:
        UsageError: if the name or an option is unknown, or a value does not fit.

    Examples:
        >>> handler = configured_method("ppi_wbp_shared", {"every": 4}, seed=1)
        >>> handler.every
        4
    """
    try:
        return training_method(name, **{**defaults, **(options or {})})
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(f"method {name!r} with the options {dict(options or {})}: {error}") from (
            error
        )


def mask_name(name: str, options: Mapping[str, Any] | None = None) -> str | None:
    """Return the kind of mask of a training method, for tags and tables; None if it has no mask.

    Examples:
        >>> mask_name("ppi_wbp_box"), mask_name("ppi_wbp_shared")
        ('box', 'adaptive')
        >>> mask_name("ppi_wbp", {"mask": "topk"})
        'topk'
    """
    if name in PLACE_METHODS:
        return PLACE_METHODS[name].get("kind", "place")
    if name not in RECIPES:
        return None
    return RECIPES[name].tag or str((options or {}).get("mask", Options.mask))


def _refuse_unknown(method: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for option in given:
        if option not in names:
            raise UsageError(
                f"The method {method!r} has no option {option!r}{_near(option, names)}; it has "
                f"{', '.join(names)}."
            )


def _near(word: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" (near ones: {', '.join(found)})" if found else ""


def _warmed_up(weight: float, epochs: int) -> float | Weight:
    return WarmUpWeight(weight, epochs, start=0.0) if epochs > 0 and weight > 0 else weight
