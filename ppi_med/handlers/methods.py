"""Training methods by name: plain training, PPI with each mask, and controls of the same area.

One key of a bundle, ``method``, chooses among them, so that experiments differ in that key alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ignite.engine import Engine

from ppi_med.baselines import BASELINES, Baseline, baseline
from ppi_med.errors import UsageError
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
from ppi_med.saliency import SaliencyMethod, by_name


class PlainTraining:
    """No intervention: takes PPI's place in a list of handlers."""

    def attach(self, engine: Engine) -> None:
        """Add nothing to the trainer."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""


_SHARED_K = 2.5

# Table 5, and the highest points (CUB); options of the mask's own come from the configuration.
_MASKS: dict[str, Callable[..., Mask]] = {
    "soft": SoftMask,
    "adaptive": partial(AdaptiveMask, k=_SHARED_K),
    "hard": HardMask,
    "box": BoxMask,
    "topk": TopKMask,
}
# As printed: x* and x' masked by each image's own and another's map, content removed by zero.
_PRINTED = {f"ppi_wbp_{mask}": mask for mask in _MASKS}
# The same with the map of each method; which mask is an option.
_MAPS = {
    "ppi_gradient": "gradient_absolute",
    "ppi_lrp": "lrp_epsilon_plus",
    "ppi_gradcam": "gradcam",
    "ppi_wbp": "wbp",
}
# Controls: the area and shape of the shared place, but at a random place; no L_con.
_CONTROLS = {"random_mask": "zero", "random_exchange": "exchange"}
# The shared place with exchange, and its cheaper schedules: options of the handler or the terms.
_SHARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppi_wbp_shared": ({}, {}),
    "ppi_wbp_shared_stop": ({"differentiable": False}, {}),
    "ppi_wbp_shared_alternate": ({"differentiable": False}, {"alternate": True}),
    "ppi_wbp_shared_every2": ({"every": 2}, {}),
    "ppi_wbp_shared_zero": ({}, {"fill": "zero"}),
    "ppi_wbp_exchange": ({}, {"pairing": "any", "mask_prime": None, "spare_shared": False}),
}
# What the map shows stays, all else is another class's: for shortcuts that lie around the object.
# The control keeps the same shape at a random place.
_CONTEXT, _RANDOM_CONTEXT = "ppi_wbp_context", "random_context"
METHODS = (
    *("plain", *BASELINES, *_CONTROLS, _RANDOM_CONTEXT),
    *(*_MAPS, *_PRINTED, *_SHARED, _CONTEXT),
)


def training_method(
    name: str,
    *,
    seed: int = 0,
    slice_axis: int | None = None,
    smooth_sigma: float = 1.5,
    con_weight: float = 0.3,
    con_step: Mapping[str, Any] | None = None,
    ad_weight: float = 1.0,
    warm_up_epochs: int = 2,
    mask: str = "soft",
    mask_options: Mapping[str, Any] | None = None,
    fill: str = "zero",
    pairing: str = "any",
    exchange_with: str = "other_class",
    momentum: float = 0.95,
    share: float = 0.03,
    release: float = 0.999,
    keep: float = 0.4,
    **handler_options: Any,
) -> PPIHandler | PlainTraining | Baseline:
    """Return the handler of a training method.

    Args:
        name: ``plain``; those of :mod:`ppi_med.baselines`, whose options are their own;
            ``random_mask`` and ``random_exchange`` (controls: the mask's area at a random place),
            ``random_context`` (that of ``ppi_wbp_context``);
            ``ppi_gradient``, ``ppi_lrp`` (z+ for convolutions), ``ppi_gradcam``, ``ppi_wbp`` (zero
            fill, another sample's map, as printed but for the bounded L_con), with the ``mask``
            that is asked for; ``ppi_wbp_soft``, ``_adaptive``, ``_hard``, ``_box`` (Table 5),
            ``_topk``: ``ppi_wbp`` with that mask; ``ppi_wbp_shared`` (shared place with exchange)
            and its variants: ``_stop`` (constant map), ``_alternate`` (constant map, one contrast a
            step), ``_every2`` (PPI in every second step), ``_zero`` (zero fill), and
            ``ppi_wbp_exchange`` (exchange, own places); ``ppi_wbp_context`` (x' keeps what its map
            shows, all around it is exchanged; no L_con).
        seed: of partners and places.
        slice_axis: axis of ``(N, C, *spatial)`` whose places are drawn anew for each sample, such
            as the B-scans of a volume: the shared place is averaged over it, and smoothing leaves
            it out.
        smooth_sigma: smoothing of the map in pixels, before thresholds.
        con_weight: weight of L_con.
        con_step: a step of that weight, such as ``{"factor": 100, "after_epoch": 20}`` (CUB).
        ad_weight: weight of L_ad.
        warm_up_epochs: epochs over which both weights grow to their full size.
        mask: of ``ppi_gradient``, ``ppi_lrp``, ``ppi_gradcam`` and ``ppi_wbp``: ``soft``,
            ``adaptive``, ``hard``, ``box`` or ``topk``.
        mask_options: of that mask, such as ``{"k": 1000}``.
        fill: of these and of ``ppi_wbp_`` with a mask's name: what removed content becomes.
        pairing: of the same: whose map masks x'.
        exchange_with: whose content is exchanged, ``any`` or ``other_class``: with a sample of the
            same class, an artefact that follows the class is exchanged for itself.
        momentum: of the shared place's running mean.
        share: of the image that x' loses at the shared place.
        release: how slowly a held shared place falls (``SharedPlace``): a place that has been
            unlearned must stay covered, or it is learned again.
        keep: share of the image that ``ppi_wbp_context`` keeps.
        handler_options: further options of :class:`PPIHandler`.

    Returns:
        The handler.

    Raises:
        UsageError: where the name is unknown.

    Example:
        >>> training_method("ppi_wbp_box").terms.mask.k
        1.2
        >>> training_method("ppi_gradcam", mask="topk", mask_options={"k": 50}).terms.mask.k
        50
        >>> training_method("plain").state_dict()
        {}
    """
    if name == "plain":
        return PlainTraining()
    if name in BASELINES:
        return baseline(name, seed=seed, slice_axis=slice_axis, **handler_options)
    if name not in METHODS:
        raise UsageError(f"method is {name!r}, expected one of: {', '.join(METHODS)}.")
    common: dict[str, Any] = {
        "to_map": SaliencyToMap(
            smooth_sigma=smooth_sigma, smooth_dims=None if slice_axis is None else 2
        ),
        "con_weight": _stepped(_warmed_up(con_weight, warm_up_epochs), con_step),
        "ad_weight": _warmed_up(ad_weight, warm_up_epochs),
        "fill_pairing": exchange_with,
        "seed": seed,
    }
    axes = (0,) if slice_axis is None else (0, slice_axis)
    shared = SharedPlace(momentum=momentum, axes=axes, release=release)
    saliency: SaliencyMethod | None = None
    if name in _PRINTED or name in _MAPS:
        if name in _MAPS:
            options = {"slice_axis": slice_axis} if name == "ppi_gradcam" else {}
            saliency = by_name(_MAPS[name], **options)
        chosen = _mask(_PRINTED.get(name, mask), mask_options if name in _MAPS else None)
        terms = {**common, "mask": chosen, "fill": fill, "pairing": pairing}
    elif name in _CONTROLS:
        moved = RandomPlace(TopKMask(fraction=share), seed=seed)
        handler_options = {"differentiable": False, **handler_options}
        terms = {
            **common,
            "mask": moved,
            "fill": _CONTROLS[name],
            "pairing": shared,
            "contrasts": ("ad",),
        }
    elif name in (_CONTEXT, _RANDOM_CONTEXT):
        handler_options = {"differentiable": False, **handler_options}
        kept: Mask = TopKMask(fraction=keep)
        if name == _RANDOM_CONTEXT:
            kept = RandomPlace(kept, seed=seed)
        terms = {
            **common,
            "mask_prime": ComplementMask(kept),
            "fill": "exchange",
            "pairing": "own",
            "contrasts": ("ad",),
        }
    else:
        of_handler, of_terms = _SHARED[name]
        handler_options = {**of_handler, **handler_options}
        base = {
            "mask": AdaptiveMask(k=_SHARED_K),
            # A fixed share: a threshold of mean + k std can come to lie above everything once the
            # shared map has spread, and L_ad then removes nothing.
            "mask_prime": TopKMask(fraction=share),
            "fill": "exchange",
            "pairing": shared,
            "spare_shared": True,
        }
        terms = {**common, **base, **of_terms}
    return PPIHandler(saliency, PPITerms(**terms), **handler_options)


def configured_method(
    name: str, options: Mapping[str, Any] | None = None, **defaults: Any
) -> PPIHandler | PlainTraining | Baseline:
    """Return the handler of a training method whose options stand in one key of a configuration.

    Args:
        name: see :func:`training_method`.
        options: of :func:`training_method`, by name; they go before the defaults.
        defaults: of it too.

    Raises:
        UsageError: where the name or an option is unknown, or a value does not fit.

    Example:
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
    """Return the kind of mask of a training method, for tags and tables; None for plain training.

    Example:
        >>> mask_name("ppi_wbp_box"), mask_name("ppi_wbp_shared")
        ('box', 'adaptive')
        >>> mask_name("ppi_wbp", {"mask": "topk"})
        'topk'
    """
    if name == "plain" or name in BASELINES:
        return None
    if name in _CONTROLS or name == _RANDOM_CONTEXT:
        return "random"
    if name in _MAPS:
        return str((options or {}).get("mask", "soft"))
    return "rest" if name == _CONTEXT else _PRINTED.get(name, "adaptive")


def _mask(name: str, options: Mapping[str, Any] | None) -> Mask:
    if name not in _MASKS:
        raise UsageError(f"mask is {name!r}, expected one of: {', '.join(_MASKS)}.")
    return _MASKS[name](**(options or {}))


def _stepped(weight: float | Weight, step: Mapping[str, Any] | None) -> float | Weight:
    return StepWeight(weight, **step) if step else weight


def _warmed_up(weight: float, epochs: int) -> float | WarmUpWeight:
    return WarmUpWeight(weight, epochs, start=0.0) if epochs > 0 and weight > 0 else weight
