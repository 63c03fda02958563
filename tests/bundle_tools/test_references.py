from __future__ import annotations

import pytest

from ppi_med.bundle_tools.check import compile_error, near_name


@pytest.mark.parametrize(
    "value", ["$@train::trainer.run()", "$@a#0 + @b::c::1", "$ 1", "plain (text", "@ref", 3, ["$("]]
)
def test_in_order(value: object) -> None:
    assert compile_error(value) is None


@pytest.mark.parametrize("value", ["$print(", "$@a b", "$"])
def test_wrong_syntax(value: object) -> None:
    assert "no valid Python" in str(compile_error(value))


def test_near_name_prefers_the_nearest() -> None:
    assert near_name("optimzer", ["optimizer", "loss", "optimum"]) == "; did you mean @optimizer"
    assert near_name("xyz", ["optimizer"]) == ""
