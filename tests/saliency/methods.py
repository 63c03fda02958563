"""The saliency methods that the contract tests run on: a new one is one more line."""

from __future__ import annotations

from collections.abc import Callable

from ppi_med.saliency import (
    LRP,
    WBP,
    GradCAM,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SaliencyMethod,
    SmoothGrad,
    SymmetryMean,
)
from ppi_med.saliency.lrp import epsilon_gamma_box

METHODS: dict[str, Callable[[], SaliencyMethod]] = {
    "WBP": WBP,
    "Gradient": Gradient,
    "Gradient absolute": lambda: Gradient("absolute"),
    "Gradient x input": GradientTimesInput,
    "GradCAM": lambda: GradCAM(relu=False),
    "LRP": LRP,
    "LRP composite": lambda: LRP(epsilon_gamma_box(-4.0, 4.0)),
    "Integrated gradients": lambda: IntegratedGradients(steps=3),
    "SmoothGrad of WBP": lambda: SmoothGrad(WBP(), samples=2),
    "Symmetry mean of WBP": lambda: SymmetryMean(flips=[-1], turns=False),
    "Occlusion": lambda: Occlusion(window=3, stride=2),
}
# They explain a convolution, so a network needs one.
NEED_CONVOLUTION = {"GradCAM"}
