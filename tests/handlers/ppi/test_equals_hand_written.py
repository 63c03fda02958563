"""The handler trains exactly as PPI written out by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ppi_med.handlers.ppi import PPIHandler
from ppi_med.intervention import (
    AdaptiveMask,
    BalancedWeight,
    BoxMask,
    HardMask,
    PPITerms,
    SaliencyToMap,
    SharedPlace,
    SoftMask,
)
from tests.handlers.ppi.trainers import batches, hand_written_loop, network, trainer

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "soft, zero, any": {"mask": SoftMask()},
    "soft, sparse": {"mask": SoftMask(), "reg_weight": 0.01},
    "adaptive, blur, same class": {
        "mask": AdaptiveMask(k=1.0),
        "fill": "blur",
        "pairing": "same_class",
    },
    "hard, mean, other class": {"mask": HardMask(k=1.0), "fill": "mean", "pairing": "other_class"},
    "box, exchange, balanced": {
        "mask": BoxMask(),
        "fill": "exchange",
        "con_weight": BalancedWeight(0.1),
    },
    "shared place, exchange": {
        "mask": AdaptiveMask(k=1.0),
        "to_map": SaliencyToMap(smooth_sigma=1.0),
        "fill": "exchange",
        "pairing": "shared",
    },
    "alternate": {"alternate": True},
    "printed": {"con_form": "printed", "con_weight": 0.01},
}


def fresh(options: dict[str, Any]) -> PPITerms:
    # Weights keep running means: each run has its own.
    terms = PPITerms(seed=3, **copy.deepcopy(options))
    if options.get("pairing") == "shared":
        terms.shared = SharedPlace()
    return terms


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_weights_equal_after_five_steps(name: str) -> None:
    options = CONFIGURATIONS[name]
    by_handler, by_hand = network(), network()
    data = batches(5)
    trainer(by_handler, data, [PPIHandler(terms=fresh(options))]).run()
    hand_written_loop(by_hand, data, fresh(options))
    before = dict(network().named_parameters())
    for key, expected in by_hand.state_dict().items():
        torch.testing.assert_close(by_handler.state_dict()[key], expected, rtol=1e-9, atol=1e-11)
    assert any(not torch.equal(p, before[k]) for k, p in by_handler.named_parameters())


def test_the_terms_change_the_training() -> None:
    plain, ppi = network(), network()
    data = batches(3)
    trainer(plain, data).run()
    trainer(ppi, data, [PPIHandler()]).run()
    assert not torch.allclose(plain[0].weight, ppi[0].weight)


def test_without_terms_training_is_plain() -> None:
    plain, ppi = network(), network()
    data = batches(4)
    trainer(plain, data).run()
    off = PPITerms(contrasts=(), reg_weight=0.0)
    trainer(ppi, data, [PPIHandler(terms=off)]).run()
    for key, expected in plain.state_dict().items():
        torch.testing.assert_close(ppi.state_dict()[key], expected, rtol=1e-12, atol=1e-13)


def test_accumulated_steps_equal_the_sum_of_their_gradients() -> None:
    by_trainer, by_hand = network(), network()
    data = batches(4)
    trainer(by_trainer, data, [PPIHandler(terms=PPITerms(seed=3))], accumulation_steps=4).run()
    gradients = []
    for parameter in by_hand.parameters():
        gradients.append(torch.zeros_like(parameter))
    terms = PPITerms(seed=3)
    start = [p.detach().clone() for p in by_hand.parameters()]
    for number, batch in enumerate(data, start=1):
        # One step of the hand-written loop from the same weights gives -lr * gradient.
        terms_steps = _one_step(by_hand, batch, terms, number)
        for total, step in zip(gradients, terms_steps, strict=True):
            total += step / 4
        with torch.no_grad():
            for parameter, value in zip(by_hand.parameters(), start, strict=True):
                parameter.copy_(value)
    for parameter, value, step in zip(by_trainer.parameters(), start, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), value + step, rtol=1e-9, atol=1e-11)


def _one_step(
    net: torch.nn.Module, batch: dict[str, torch.Tensor], terms: PPITerms, number: int
) -> list[torch.Tensor]:
    before = [p.detach().clone() for p in net.parameters()]
    hand_written_loop(net, [batch], terms)
    return [p.detach() - b for p, b in zip(net.parameters(), before, strict=True)]
