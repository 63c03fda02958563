"""Targets: an index, one index per sample, a callable, a single sigmoid logit."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import WBP, UnsupportedOperationError, primary_logits, target_scores
from tests.saliency.small_networks import Mixed


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().double().eval()


@pytest.fixture
def image() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 1, 5, 5).double()


def test_forms_of_the_same_target(network: nn.Module, image: Tensor) -> None:
    expected = WBP()(network, image, 2)
    forms: list[Any] = [
        torch.tensor(2),
        torch.tensor([2, 2, 2]),
        torch.tensor([2, 2, 2], dtype=torch.int32),
        np.int64(2),
        lambda output: output[:, 2],
        lambda output: output.select(1, 2),
    ]
    for target in forms:
        assert torch.equal(WBP()(network, image, target), expected)


def test_a_difference_of_logits(network: nn.Module, image: Tensor) -> None:
    s = WBP()(network, image, lambda output: output[:, 1] - output[:, 0])
    assert torch.allclose(s, WBP()(network, image, 1) - WBP()(network, image, 0), atol=1e-12)


def test_a_callable_is_under_the_rules(network: nn.Module, image: Tensor) -> None:
    """A sigmoid passes relevance by its ratio, also where it is in the target."""
    z = network(image)[:, 0].detach()
    ratio = (torch.sigmoid(z) - 0.5) / z
    s = WBP()(network, image, lambda output: torch.sigmoid(output[:, 0]))
    assert torch.allclose(s, WBP()(network, image, 0) * ratio[:, None, None, None])
    with pytest.raises(UnsupportedOperationError, match="log_softmax"):
        WBP()(network, image, lambda output: output.log_softmax(1)[:, 0])


def test_single_logit() -> None:
    torch.manual_seed(0)
    network = Mixed(classes=1).double().eval()
    image = torch.randn(3, 1, 5, 5).double()
    positive, negative = WBP()(network, image, 1), WBP()(network, image, 0)
    assert torch.equal(positive, -negative)
    assert torch.equal(positive, WBP()(network, image, lambda output: output[:, 0]))
    mixed = WBP()(network, image, torch.tensor([1, 0, 1]))
    assert torch.equal(mixed, torch.stack([positive[0], negative[1], positive[2]]))
    squeezed = WBP()(lambda x: network(x).squeeze(1), image, 0)
    assert torch.equal(squeezed, negative)
    with pytest.raises(IndexError, match="class 2 is outside the 2 classes"):
        WBP()(network, image, 2)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3, IndexError, "target class 3 is outside the 3 classes"),
        (-1, IndexError, "target class -1"),
        (torch.tensor([0, 1]), ValueError, r"shape \(2,\), expected one class index per sample"),
        (torch.tensor([[0], [1], [2]]), ValueError, r"shape \(3, 1\)"),
        (torch.tensor([0.0, 1.0, 2.0]), ValueError, "float32, expected integer"),
        (torch.tensor([True, False, True]), ValueError, "bool, expected integer"),
        (1.0, ValueError, "expected integer class indices"),
        (True, ValueError, "expected integer class indices"),
        (lambda output: output, ValueError, r"must return scores of shape \(N,\), got \(3, 3\)"),
        (lambda output: output.sum(), ValueError, r"got \(\)"),
        (lambda output: output[:2, 0], ValueError, "2 scores for 3 images"),
        (lambda output: 1, ValueError, "got int"),
    ],
)
def test_bad_targets(
    network: nn.Module, image: Tensor, target: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        WBP()(network, image, target)


def test_logits_of_more_axes_need_a_callable(image: Tensor) -> None:
    segmenter = nn.Conv2d(1, 2, 1).double()
    with pytest.raises(ValueError, match=r"shape \(3, 2, 5, 5\) have no class axis alone"):
        WBP()(segmenter, image, 1)
    s = WBP()(segmenter, image, lambda output: output[:, 1].mean((1, 2)))
    assert s.shape == image.shape


Pair = namedtuple("Pair", ["logits", "aux_logits"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"logits": logits, "features": logits * 2},
        lambda logits: {"pred": logits},
        lambda logits: Pair(logits, logits * 2),
        lambda logits: (logits, logits * 2),
        lambda logits: [logits],
    ],
)
def test_structured_outputs(network: nn.Module, image: Tensor, wrap: Any) -> None:
    assert torch.equal(WBP()(lambda x: wrap(network(x)), image, 1), WBP()(network, image, 1))


def test_output_without_logits() -> None:
    for output in ({"mask": torch.zeros(2, 2)}, [], None, "text", ["text"]):
        with pytest.raises(TypeError, match="no logits found"):
            primary_logits(output)


def test_scores_select_one_logit_a_sample() -> None:
    logits = torch.arange(6.0).view(2, 3)
    assert target_scores(logits, torch.tensor([2, 0])).tolist() == [2.0, 3.0]
    assert target_scores(logits, 1).tolist() == [1.0, 4.0]


def test_target_on_another_device_or_in_inference_mode(network: nn.Module, image: Tensor) -> None:
    with torch.inference_mode():
        target = torch.tensor([1, 0, 2])
    expected = WBP()(network, image, torch.tensor([1, 0, 2]))
    assert torch.equal(WBP()(network, image, target), expected)


@pytest.mark.parametrize("axes", [(1, 1), (1,), (1, 1, 1)])
def test_logits_with_further_axes_of_size_one(
    network: nn.Module, image: Tensor, axes: tuple[int, ...]
) -> None:
    """A convolution as the head, as in the model zoo's bundle of pathology."""

    def unflattened(x: Tensor) -> Tensor:
        out: Tensor = network(x)
        return out.reshape(*out.shape, *axes)

    target = torch.tensor([0, 2, 1])
    assert torch.equal(WBP()(unflattened, image, target), WBP()(network, image, target))
    assert primary_logits({"logits": torch.zeros(3, 1, *axes)}).shape == (3, 1)
