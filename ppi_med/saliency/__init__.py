"""Saliency: which pixels a logit comes from.

- ``base``: the one call form of every method, and the recorded forward a trainer can share.
- ``wbp``: Weight Back Propagation; ``rules``, ``activations``, ``products``, ``normalisation``,
  ``attention``: its rules.
- ``engine``, ``primitives``, ``roles``, ``operations``: the recorded forward under the rules.
- ``completeness``: pixels and constants add up to the logit.
- ``target``, ``isolation``, ``location``: score selection, no trace left, naming a module.
"""

from ppi_med.saliency.base import Recording, SaliencyMethod
from ppi_med.saliency.completeness import Completeness, wbp_completeness
from ppi_med.saliency.primitives import UnsupportedOperationError
from ppi_med.saliency.target import Target, primary_logits, target_scores
from ppi_med.saliency.wbp import WBP

__all__ = [
    "WBP",
    "Completeness",
    "Recording",
    "SaliencyMethod",
    "Target",
    "UnsupportedOperationError",
    "primary_logits",
    "target_scores",
    "wbp_completeness",
]
