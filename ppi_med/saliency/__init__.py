"""Saliency: which pixels a logit comes from.

- ``base``: the one call form of every method, and the recorded forward a trainer can share.
- ``wbp``: Weight Back Propagation; ``rules``, ``activations``, ``products``, ``normalisation``,
  ``attention``: its rules.
- ``engine``, ``primitives``, ``roles``, ``operations``: the recorded forward under the rules.
- ``completeness``: pixels and constants add up to the logit.
- ``gradient``, ``gradcam``, ``lrp``, ``integrated_gradients``, ``smoothgrad``, ``occlusion``:
  methods to compare with; ``lrp_rules`` and ``lrp_composite``: which rule a layer has.
- ``symmetry``: any method averaged over flips and turns; ``copies``: what it shares with
  SmoothGrad.
- ``norm_derivatives``: batch and instance normalisation where torch's own backward is wrong.
- ``names``: every method by its name.
- ``target``, ``isolation``, ``location``: score selection, no trace left, naming a module.
"""

from ppi_med.saliency.base import Recording, SaliencyMethod
from ppi_med.saliency.completeness import Completeness, wbp_completeness
from ppi_med.saliency.gradcam import GradCAM, GradCAMPlusPlus
from ppi_med.saliency.gradient import Gradient, GradientTimesInput
from ppi_med.saliency.integrated_gradients import IntegratedGradients
from ppi_med.saliency.lrp import LRP
from ppi_med.saliency.names import METHODS, by_name
from ppi_med.saliency.norm_derivatives import norm_derivatives
from ppi_med.saliency.occlusion import Occlusion
from ppi_med.saliency.primitives import UnsupportedOperationError
from ppi_med.saliency.smoothgrad import SmoothGrad
from ppi_med.saliency.symmetry import SymmetryMean
from ppi_med.saliency.target import Target, primary_logits, target_scores
from ppi_med.saliency.wbp import WBP

__all__ = [
    "LRP",
    "METHODS",
    "WBP",
    "Completeness",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientTimesInput",
    "IntegratedGradients",
    "Occlusion",
    "Recording",
    "SaliencyMethod",
    "SmoothGrad",
    "SymmetryMean",
    "Target",
    "UnsupportedOperationError",
    "by_name",
    "norm_derivatives",
    "primary_logits",
    "target_scores",
    "wbp_completeness",
]
