"""Training methods by name: what each is made of, and that each trains a network."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ppi_med.baselines import BASELINES
from ppi_med.errors import UsageError
from ppi_med.handlers.methods import (
    _COMMON,
    METHODS,
    RECIPES,
    Options,
    configured_method,
    mask_name,
    training_method,
)
from ppi_med.intervention import SoftMask, StepWeight, TopKMask
from ppi_med.saliency import LRP, WBP, GradCAM, Gradient
from tests.handlers.ppi.trainers import batches, network, trainer

MAPS = {"ppi_gradient": Gradient, "ppi_lrp": LRP, "ppi_gradcam": GradCAM, "ppi_wbp": WBP}


@pytest.mark.parametrize("name", [name for name in METHODS if name not in BASELINES])
def test_every_method_trains(name: str) -> None:
    torch.manual_seed(0)
    trained = network()
    before = [p.detach().clone() for p in trained.parameters()]
    method = training_method(name, warm_up_epochs=0)
    trainer(trained, batches(3), [method]).run()
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
    assert all(bool(p.isfinite().all()) for p in trained.parameters())
    if name in RECIPES:
        assert math.isfinite(float(method.last.total))


@pytest.mark.parametrize("name", MAPS)
def test_maps_and_masks_by_name(name: str) -> None:
    handler = training_method(name)
    assert type(handler.saliency) is MAPS[name]
    assert type(handler.terms.mask) is SoftMask and handler.terms.mask_prime is handler.terms.mask
    points = training_method(name, mask="topk", mask_options={"k": 7})
    assert isinstance(points.terms.mask, TopKMask) and points.terms.mask.k == 7


def test_a_mask_in_the_name_is_not_changed_by_the_option_of_the_others() -> None:
    box = training_method("ppi_wbp_box", mask="topk", mask_options={"k": 7})
    assert box.terms.mask.k == 1.2
    assert training_method("ppi_wbp_topk").terms.mask.k == 1000


def test_slices_have_their_own_map() -> None:
    assert training_method("ppi_gradcam", slice_axis=2).saliency.slice_axis == 2


def test_the_step_of_the_contrast() -> None:
    handler = training_method(
        "ppi_wbp", con_weight=0.01, con_step={"factor": 100, "after_epoch": 20}, warm_up_epochs=0
    )
    weight = handler.terms.weights["con"]
    assert isinstance(weight, StepWeight)
    assert (weight(20, 1), weight(21, 1)) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "square"}, "soft, adaptive"),
        ({"mask_options": {"points": 3}}, "points"),
        ({"con_wieght": 1.0}, r"no option 'con_wieght' \(near ones: con_weight, "),
        ({"evry": 2}, "near ones: every"),
        ({"terms": None}, "no option 'terms'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        configured_method("ppi_lrp", options)


def test_mask_names() -> None:
    assert mask_name("ppi_lrp") == "soft"
    assert mask_name("ppi_wbp_topk") == "topk"
    assert mask_name("plain") is None and mask_name("random_mask") == "random"
    assert mask_name("ppi_wbp_context") == "rest"


def test_unknown_names_say_the_near_ones() -> None:
    with pytest.raises(UsageError, match=r"near ones: ppi_wbp_shared, "):
        configured_method("ppi_wbp_sharde")
    with pytest.raises(UsageError, match="near ones: warm_up_epochs"):
        configured_method("irm", {"warmup_epochs": 3})
    with pytest.raises(UsageError, match="'plain' has no option 'wieght'"):
        configured_method("plain", {"wieght": 3})


def test_options_of_other_methods_are_left_unread(caplog: pytest.LogCaptureFixture) -> None:
    # A bundle's options for one method stay in its configuration where another is chosen.
    caplog.set_level("INFO")
    given = {"mask": "topk", "mask_options": {"fraction": 0.1}, "con_weight": 0.1}
    handler = configured_method("ppi_wbp_shared", given)
    assert "does not read: mask, mask_options" in caplog.text
    assert type(handler.terms.mask_prime) is TopKMask
    assert handler.terms.mask_prime.fraction == 0.03
    assert type(configured_method("plain", given)).__name__ == "PlainTraining"


def test_every_option_is_read_by_some_recipe_and_every_recipe_reads_its_own() -> None:
    read = set().union(*(recipe.options for recipe in RECIPES.values()))
    assert read == {one.name for one in dataclasses.fields(Options)} - _COMMON

    class Seen(Options):
        def __getattribute__(self, name: str) -> object:
            if name in Options.__dataclass_fields__:
                names.add(name)
            return super().__getattribute__(name)

    for name, recipe in RECIPES.items():
        names: set[str] = set()
        recipe.make(Seen())
        assert names - _COMMON == set(recipe.options), name
