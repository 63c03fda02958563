"""PPI with every comparator, by ``_target_`` in a configuration, equals PPI written out by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from ppi_med.handlers.ppi import PPIHandler
from ppi_med.intervention import PPITerms, SoftMask
from tests.handlers.ppi.trainers import batches, hand_written_loop, network, trainer

SALIENCY = "ppi_med.saliency"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gradient": {"_target_": f"{SALIENCY}.Gradient", "kind": "absolute"},
    "gradient x input": {"_target_": f"{SALIENCY}.GradientTimesInput"},
    "GradCAM": {"_target_": f"{SALIENCY}.GradCAM"},
    "GradCAM of a layer": {"_target_": f"{SALIENCY}.GradCAM", "layer": "2"},
    "GradCAM++": {"_target_": f"{SALIENCY}.GradCAMPlusPlus"},
    "LRP": {
        "_target_": f"{SALIENCY}.LRP",
        "rule": {"_target_": f"{SALIENCY}.lrp.Epsilon", "epsilon": 0.01},
        "first": {"_target_": f"{SALIENCY}.lrp.ZBeta", "low": -6.0, "high": 6.0},
        "kinds": {"convolution": {"_target_": f"{SALIENCY}.lrp.Gamma"}},
    },
    "LRP composite": {
        "_target_": f"{SALIENCY}.LRP",
        "rule": {"_target_": f"{SALIENCY}.lrp.epsilon_plus_flat"},
    },
    "integrated gradients": {"_target_": f"{SALIENCY}.IntegratedGradients", "steps": 3},
    "SmoothGrad": {
        "_target_": f"{SALIENCY}.SmoothGrad",
        "method": {"_target_": f"{SALIENCY}.WBP"},
        "samples": 2,
    },
    "occlusion": {"_target_": f"{SALIENCY}.Occlusion", "window": 8},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_trains_as_by_hand(name: str) -> None:
    parser = ConfigParser({"method": CONFIGURATIONS[name]})
    method, data = parser.get_parsed_content("method"), batches(2)
    by_hand, handled = network(), network()
    plain = copy.deepcopy(handled)
    options: dict[str, Any] = {"mask": SoftMask(), "reg_weight": 0.01}
    hand_written_loop(by_hand, data, PPITerms(**options), method=method)
    trainer(handled, data, [PPIHandler(method, PPITerms(**options))]).run()
    trainer(plain, data).run()
    expected = by_hand.state_dict()
    for key, value in handled.state_dict().items():
        assert torch.allclose(value.double(), expected[key].double(), rtol=1e-7, atol=1e-9), key
    assert not torch.allclose(handled[0].weight, plain[0].weight, atol=1e-6)
    assert not any(m._forward_hooks for m in handled.modules())
