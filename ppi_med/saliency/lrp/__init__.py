"""Layer-wise relevance propagation: the method, its rules, and their choice by layer."""

from ppi_med.saliency.lrp.composite import (
    LRP,
    Composite,
    epsilon_alpha2_beta1,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
)
from ppi_med.saliency.lrp.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    LRPRule,
    WSquare,
    ZBeta,
    Zero,
)

__all__ = [
    "LRP",
    "AlphaBeta",
    "Composite",
    "Epsilon",
    "Flat",
    "Gamma",
    "LRPRule",
    "WSquare",
    "ZBeta",
    "Zero",
    "epsilon_alpha2_beta1",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
]
