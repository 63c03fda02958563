from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import as_logits, check_label_values, class_index

ONE_HOT = torch.tensor([[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("label", "logits", "expected"),
    [
        (torch.tensor([0, 1]), 1, [0, 1]),
        (torch.tensor([0.0, 1.0]), 1, [0, 1]),
        (torch.tensor([[0.0], [1.0]]), 1, [0, 1]),
        (torch.tensor([True, False]), 1, [1, 0]),
        (torch.tensor([0, 1], dtype=torch.uint8), 2, [0, 1]),
        (torch.tensor([[1], [0]]), 2, [1, 0]),
        (torch.tensor([2, 0]), 3, [2, 0]),
        (torch.tensor([2.0, 0.0]), 3, [2, 0]),
        (ONE_HOT, 3, [2, 0]),
        (ONE_HOT.float(), 3, [2, 0]),
        (ONE_HOT.bool(), 3, [2, 0]),
    ],
)
def test_forms(label, logits, expected):
    index = class_index(label, logits, 2)
    assert index.dtype == torch.int64
    assert index.tolist() == expected


@pytest.mark.parametrize(
    ("label", "logits", "part"),
    [
        (torch.tensor([0, 2]), 1, "label 2 of sample 1 .* from 0 to 1"),
        (torch.tensor([0.5, 1.0]), 1, "label 0.5 of sample 0"),
        (torch.tensor([0.0, torch.nan]), 1, "label nan of sample 1"),
        (torch.tensor([-1, 0]), 2, "label -1 of sample 0"),
        (torch.tensor([0, 3]), 3, "from 0 to 2"),
        (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), 2, "one-hot rows of 2 values"),
        (torch.tensor([[0.3, 0.7], [0.0, 1.0]]), 2, "sample 0"),
        (torch.tensor([[0, 0], [0, 1]]), 2, "sample 0"),
        (torch.tensor([[0, 1], [1, 0]]), 1, r"shape \(2, 2\) for 1 logit"),
        (torch.tensor([[0, 1], [1, 0]]), 3, r"one-hot \(N, 3\)"),
        (torch.tensor([0, 1, 1]), 2, "for 2 samples"),
        (torch.tensor(1), 2, r"shape \(\)"),
        (torch.zeros(2, 1, 3), 2, r"shape \(2, 1, 3\)"),
    ],
)
def test_wrong_labels(label, logits, part):
    with pytest.raises(ValueError, match=part):
        class_index(label, logits, 2)


def test_values_can_be_checked_alone():
    with pytest.raises(ValueError, match="label 4 of sample 0"):
        check_label_values(torch.tensor([4]), 2)


def test_logits():
    assert as_logits(torch.zeros(3)).shape == (3, 1)
    assert as_logits(torch.zeros(3, 2, dtype=torch.bfloat16)).dtype == torch.float32
    with pytest.raises(ValueError, match=r"shape \(3, 2, 4, 4\)"):
        as_logits(torch.zeros(3, 2, 4, 4))
    with pytest.raises(TypeError, match="tuple.*logits"):
        as_logits((torch.zeros(3),))
    with pytest.raises(TypeError, match="int64"):
        as_logits(torch.zeros(3, dtype=torch.int64))
