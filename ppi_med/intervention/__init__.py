"""Proactive Pseudo-Intervention as pure functions: maps, masks, fills, partners, losses, weights.

`PPITerms` puts them together without any engine; each part can be used alone.
"""

from __future__ import annotations

from ppi_med.intervention.contrasts import Contrast, Contrasts
from ppi_med.intervention.divergence import DivergenceError, DivergenceGuard
from ppi_med.intervention.fills import (
    BlurFill,
    ConstantFill,
    ExchangeFill,
    Fill,
    MeanFill,
    ZeroFill,
    make_fill,
    remove,
)
from ppi_med.intervention.labels import as_logits, check_label_values, class_index
from ppi_med.intervention.losses import (
    adversarial_loss,
    contrast_loss,
    log_odds,
    log_prob_not_y,
    log_prob_y,
    sparsity_loss,
)
from ppi_med.intervention.maps import SaliencyToMap
from ppi_med.intervention.masks import (
    AdaptiveMask,
    BoxMask,
    HardMask,
    Mask,
    RandomPlace,
    SoftMask,
    TopKMask,
)
from ppi_med.intervention.pairing import draw_partners
from ppi_med.intervention.randomness import move_at_random
from ppi_med.intervention.shared_place import SharedPlace
from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.intervention.terms import PPITerms, TermsResult
from ppi_med.intervention.weights import (
    BalancedWeight,
    ConstantWeight,
    StepWeight,
    WarmUpWeight,
    Weight,
    make_weight,
)

__all__ = [
    "AdaptiveMask",
    "BalancedWeight",
    "BlurFill",
    "BoxMask",
    "ConstantFill",
    "ConstantWeight",
    "Contrast",
    "Contrasts",
    "DivergenceError",
    "DivergenceGuard",
    "ExchangeFill",
    "Fill",
    "HardMask",
    "Mask",
    "MeanFill",
    "PPITerms",
    "RandomPlace",
    "SaliencyToMap",
    "SharedPlace",
    "SoftMask",
    "StepWeight",
    "TermsResult",
    "TopKMask",
    "WarmUpWeight",
    "Weight",
    "ZeroFill",
    "adversarial_loss",
    "as_logits",
    "check_label_values",
    "class_index",
    "contrast_loss",
    "draw_partners",
    "gaussian_smooth",
    "log_odds",
    "log_prob_not_y",
    "log_prob_y",
    "make_fill",
    "make_weight",
    "move_at_random",
    "remove",
    "sparsity_loss",
]
