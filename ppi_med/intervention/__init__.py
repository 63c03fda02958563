"""Proactive Pseudo-Intervention without an engine: saliency in, altered images and losses out.

`PPITerms` puts the parts together; each can be used alone. Everything is batched over
`(N, C, *spatial)` with one to any number of spatial axes, and configured by constructor arguments.

Masks T(s), of a map `(N, 1, *spatial)` from `SaliencyToMap`; 1 = removed:

| mask | removes | gradient in the map |
| --- | --- | --- |
| `SoftMask` (sigma 0.25, omega 100) | a sigmoid around sigma | yes |
| `AdaptiveMask` (k 2.5, omega 100) | a sigmoid around mean + k std of the image | yes |
| `HardMask` (k 7) | points above k std | zero |
| `BoxMask` (k 1.2) | centre of mass +- k std along each axis | zero |
| `TopKMask` (k 1000, or a fraction) | the k highest points | zero |
| `RandomPlace` (mask, seed) | the same shape at a random place: the control | that of its mask |
| `ComplementMask` (mask) | all that the mask leaves | that of its mask |

Fills, in place of what was removed, in x* and x' alike:

| fill | content | a batch of one |
| --- | --- | --- |
| `zero` | 0, as printed | |
| a number | that number (`ConstantFill`: or one per channel) | |
| `mean` | each image's mean, channel by channel | |
| `blur` | the image, smoothed | |
| `exchange` | another sample's content at the same place | its own, half an image away |

Pairings, for the mask of x':

| pairing | mask | without such a partner | a batch of one |
| --- | --- | --- | --- |
| `any` | of another sample; everyone's is used once | | its own, at a random place |
| `same_class` | of another sample of the class | any other sample | its own, at a random place |
| `other_class` | of a sample of another class | any other sample | its own, at a random place |
| `own` | its own, of `mask_prime`: a `ComplementMask` keeps what the map shows | | its own |
| `shared` | of the running mean of all maps, one for all | | the running mean's, if there is one |

Weights: a number, `StepWeight`, `WarmUpWeight`, `BalancedWeight`; they nest.
"""

from __future__ import annotations

from ppi_med.intervention.contrasts import Contrast, Contrasts, TermsResult
from ppi_med.intervention.divergence import DivergenceError, DivergenceGuard, GradientGuard
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
from ppi_med.intervention.mask_wrappers import ComplementMask, RandomPlace
from ppi_med.intervention.masks import (
    AdaptiveMask,
    BoxMask,
    HardMask,
    Mask,
    SoftMask,
    TopKMask,
)
from ppi_med.intervention.pairing import draw_partners
from ppi_med.intervention.randomness import move_at_random
from ppi_med.intervention.shared_place import SharedPlace
from ppi_med.intervention.smoothing import gaussian_smooth
from ppi_med.intervention.terms import PPITerms
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
    "ComplementMask",
    "ConstantFill",
    "ConstantWeight",
    "Contrast",
    "Contrasts",
    "DivergenceError",
    "DivergenceGuard",
    "ExchangeFill",
    "Fill",
    "GradientGuard",
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
