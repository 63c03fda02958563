from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import decollate_batch
from monai.engines import SupervisedEvaluator
from monai.handlers import ROCAUC
from sklearn.metrics import roc_auc_score
from torch import nn

from ppi_med.handlers import AUC, Accuracy


class Fixed(nn.Module):
    """Returns the image as its logits."""

    def forward(self, image):
        return image.flatten(1)


def evaluate(logits, labels, metric, batch=3, decollate=True, network=None):
    loader = [
        {"image": logits[i : i + batch], "label": labels[i : i + batch]}
        for i in range(0, len(logits), batch)
    ]
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=loader,
        network=network or Fixed(),
        key_val_metric={"val/auc": metric},
        decollate=decollate,
    )
    evaluator.run()
    return evaluator.state.metrics["val/auc"]


def cases(n=14, classes=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, classes, generator=generator), torch.arange(n) % 2


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_single_logit(decollate, shape):
    logits, labels = cases()
    found = evaluate(logits, labels.reshape(shape).float(), AUC(), decollate=decollate)
    assert found == pytest.approx(roc_auc_score(labels, logits[:, 0]))


def test_a_pair_of_logits_is_ranked_by_their_difference():
    logits, labels = cases(classes=2)
    logits += 3 * torch.randn(14, 1, generator=torch.Generator().manual_seed(5))
    expected = roc_auc_score(labels, logits.softmax(1)[:, 1])
    assert evaluate(logits, labels, AUC()) == pytest.approx(expected)
    # The reason for a metric of our own.
    one_hot = nn.functional.one_hot(labels, 2)
    stock = ROCAUC(
        output_transform=lambda o: tuple(torch.stack([x[k] for x in o]) for k in ("pred", "label"))
    )
    assert evaluate(logits, one_hot, stock) != pytest.approx(expected, abs=1e-3)


def test_one_class_against_the_rest():
    logits, _ = cases(classes=3)
    labels = torch.arange(14) % 3
    expected = roc_auc_score(labels == 2, logits.softmax(1)[:, 2])
    assert evaluate(logits, labels, AUC(positive=2)) == pytest.approx(expected)


def test_half_precision_logits():
    logits, labels = cases()
    found = evaluate(logits.bfloat16(), labels, AUC())
    assert found == pytest.approx(roc_auc_score(labels, logits.bfloat16().float()[:, 0]))


def test_a_second_epoch_starts_anew():
    logits, labels = cases()
    metric = AUC()
    first = evaluate(logits, labels, metric)
    metric.reset()
    metric.update((logits, 1 - labels))
    assert metric.compute() == pytest.approx(1 - first)


def test_a_missing_class_and_a_diverged_network_are_said():
    logits, labels = cases()
    with pytest.raises(ValueError, match="All 14 cases have label 0"):
        evaluate(logits, labels * 0, AUC())
    logits[3] = np.nan
    with pytest.raises(ValueError, match="1 of 14 scores are NaN"):
        evaluate(logits, labels, AUC())


def test_decollated_items_are_stacked():
    logits, labels = cases()
    metric = AUC()
    metric.update(
        metric._output_transform(decollate_batch({"pred": logits, "label": labels.float()}))
    )
    assert metric.compute() == pytest.approx(roc_auc_score(labels, logits[:, 0]))


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("metric", [AUC, Accuracy])
def test_a_convolution_as_the_head(decollate, classes, metric):
    logits, labels = cases(classes=classes)
    expected = evaluate(logits, labels, metric(), decollate=decollate)

    class Head(Fixed):
        def forward(self, image):
            return super().forward(image)[:, :, None, None]

    found = evaluate(logits, labels, metric(), decollate=decollate, network=Head())
    assert found == expected
