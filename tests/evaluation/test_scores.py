from __future__ import annotations

import numpy as np
import pytest
import torch

from ppi_med.evaluation.measures import binary_label, positive_logit
from ppi_med.evaluation.roc import auc


def test_single_logit_and_pair_agree():
    logit = torch.randn(20, 1, generator=torch.Generator().manual_seed(0))
    offset = torch.randn(20, 1, generator=torch.Generator().manual_seed(1))
    pair = torch.cat([offset, offset + logit], dim=1)
    torch.testing.assert_close(
        positive_logit(pair), positive_logit(logit), rtol=0, atol=1e-6, check_dtype=True
    )


def test_a_pair_is_not_ranked_by_one_of_its_logits():
    pair = torch.tensor([[5.0, 6.0], [0.0, 2.0], [4.0, 3.0], [8.0, 7.0]])
    labels = np.array([1, 1, 0, 0])
    assert float(auc(labels, positive_logit(pair).numpy())) == 1.0
    assert float(auc(labels, pair[:, 1].numpy())) == 0.25


@pytest.mark.parametrize("positive", [0, 2])
def test_many_classes_are_one_against_the_rest(positive):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = logits.softmax(dim=1)[:, positive]
    torch.testing.assert_close(positive_logit(logits, positive).sigmoid(), expected)


def test_large_logits_keep_their_order():
    scores = positive_logit(torch.tensor([[60.0], [80.0]]))
    assert scores[0] < scores[1]


def test_labels_in_every_form():
    expected = [1, 0, 1]
    for label in (
        torch.tensor(expected),
        torch.tensor([[1.0], [0.0], [1.0]]),
        torch.tensor([[0, 1], [1, 0], [0, 1]]),
    ):
        assert binary_label(label).tolist() == expected
    assert binary_label(torch.tensor([2, 0, 1]), positive=2).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: positive_logit(torch.zeros(2, 1, 3)),
        lambda: positive_logit(torch.zeros(2, 2), positive=2),
        lambda: binary_label(torch.zeros(2, 1, 3)),
        lambda: binary_label(torch.tensor([0.5])),
    ],
)
def test_other_forms_are_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
