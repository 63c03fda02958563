"""One name, one method, wherever a method is chosen by a word."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ppi_med import saliency
from ppi_med.errors import UsageError
from ppi_med.experiments.map_inputs import CONTROLS, map_method
from ppi_med.experiments.map_inputs import METHODS as COMPARED
from ppi_med.handlers.methods import training_method
from ppi_med.segmentation.network import METHODS as SEGMENTING
from ppi_med.segmentation.network import saliency_methods
from tests.saliency.small_networks import NETWORKS, build

BOUNDS = ([-4.0], [4.0])
BOX = {"lrp_epsilon_gamma_box": {"low": -4.0, "high": 4.0}}


def of(method: object) -> Tensor:
    module, image = build(NETWORKS[0])
    return method(module, image, torch.tensor([0, 1, 2]))  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("name", saliency.METHODS)
def test_every_table_means_the_same_by_a_name(name: str) -> None:
    expected = of(saliency.by_name(name, **BOX.get(name, {})))
    assert expected.abs().max() > 0
    if name == "occlusion":  # its window follows the size of the images
        return
    if name in COMPARED:
        assert torch.equal(of(map_method(name, BOUNDS)), expected)
    if name in SEGMENTING:
        assert torch.equal(of(saliency_methods(name)[name]), expected)


def test_the_tables_take_names_of_methods_only() -> None:
    assert set(SEGMENTING) <= set(saliency.METHODS)
    assert set(COMPARED) - set(CONTROLS) <= set(saliency.METHODS)


def test_gradient_is_signed() -> None:
    signed, absolute = of(saliency.by_name("gradient")), of(saliency.by_name("gradient_absolute"))
    assert signed.min() < 0 and torch.equal(signed.abs(), absolute)


def test_methods_of_training() -> None:
    names = {
        "ppi_gradient": "gradient_absolute",
        "ppi_lrp": "lrp_epsilon_plus",
        "ppi_gradcam": "gradcam",
        "ppi_wbp": "wbp",
    }
    for training, name in names.items():
        found = training_method(training).saliency  # type: ignore[union-attr]
        assert torch.equal(of(found), of(saliency.by_name(name)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradcan", {}, r"There is no method 'gradcan'; near: gradcam"),
        ("nothing like it", {}, r"Choose from wbp, "),
        ("wbp", {"window": 3}, r"Method 'wbp' with the options \{'window': 3\}"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        saliency.by_name(name, **options)
