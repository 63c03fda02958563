from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import DivergenceError, DivergenceGuard


def check(guard=None, iteration=7, weight=1.0, **terms):
    values = {name: torch.tensor(v, requires_grad=True) for name, v in terms.items()}
    (guard or DivergenceGuard()).check(values, {"con": weight}, 3, iteration)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1001.0, 1e30])
@pytest.mark.parametrize("name", ["cls", "con", "ad", "reg"])
def test_names_the_term_the_value_and_the_time(name, value):
    terms = {"cls": 0.6, "con": 0.1, "ad": 0.2, "reg": 3.0, name: value}
    with pytest.raises(
        DivergenceError, match=f"^L_{name} is .* at epoch 3, iteration 7: "
    ) as error:
        check(**terms)
    assert (error.value.term, error.value.epoch, error.value.iteration) == (name, 3, 7)
    assert str(error.value.value) == str(float(torch.tensor(value)))


def test_printed_form_is_told_what_to_do():
    with pytest.raises(DivergenceError, match="no lower bound: use form 'bounded'"):
        check(con=-5e4)


def test_the_weighted_size_counts():
    check(con=-5e4, weight=0.01)
    check(con=5e4, weight=torch.tensor(0.01))
    with pytest.raises(DivergenceError, match="weighted -1500"):
        check(con=-500.0, weight=3.0)


def test_not_finite_counts_even_with_weight_zero():
    with pytest.raises(DivergenceError):
        check(con=float("nan"), weight=0.0)


def test_every():
    nan = float("nan")
    check(DivergenceGuard(every=5), iteration=7, con=nan)
    check(DivergenceGuard(every=0), iteration=7, con=nan)
    with pytest.raises(DivergenceError):
        check(DivergenceGuard(every=7), iteration=7, con=nan)


def test_nothing_to_check():
    DivergenceGuard().check({}, {}, 1, 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="limit is 0"):
        DivergenceGuard(limit=0)
    with pytest.raises(ValueError, match="every is -1"):
        DivergenceGuard(every=-1)
