"""Saliency: the pixels that a logit comes from.

- `base`: the common call form, and the recorded forward that a trainer can share.
- `wbp`: Weight Back Propagation; `completeness`: pixels and constants add up to the logit.
- `gradient` (with SmoothGrad and integrated gradients), `gradcam`, `occlusion`, `lrp`:
  methods to compare with; `symmetry`: any method averaged over flips and turns.
- `names`: every method by its name; `target`: which score a map explains.
- `adapters`: the call forms of Captum, Zennit, Quantus, MONAI and torch-cam.
- `engine`: the recorded forward under the rules, which leaves no trace.
"""

from ppi_med.saliency.base import Recording, SaliencyMethod
from ppi_med.saliency.completeness import Completeness, wbp_completeness
from ppi_med.saliency.engine.norm_derivatives import norm_derivatives
from ppi_med.saliency.engine.primitives import UnsupportedOperationError
from ppi_med.saliency.gradcam import GradCAM, GradCAMPlusPlus
from ppi_med.saliency.gradient import Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad
from ppi_med.saliency.lrp.composite import LRP
from ppi_med.saliency.names import METHODS, by_name
from ppi_med.saliency.occlusion import Occlusion
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
