"""The counts of tests/house.py stay within their bounds."""

from __future__ import annotations

import pytest

from tests import house


@pytest.fixture(scope="module")
def counts() -> dict[str, tuple[int, list[str]]]:
    return house.counts()


@pytest.mark.parametrize("name", house.BOUNDS)
def test_within_its_bound(name: str, counts: dict[str, tuple[int, list[str]]]) -> None:
    number, found = counts[name]
    assert number <= house.BOUNDS[name], f"{name}: {number}, {found}"


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small house in which each count is known."""
    made = {
        "ppi_med.__init__": "",
        "ppi_med.a.__init__": "",
        "ppi_med.a.one": "def f():\n    from ppi_med.a.two import g\n",
        "ppi_med.a.two": "from ppi_med.b import three\n",
        "ppi_med.b.__init__": "",
        "ppi_med.b.three": "if TYPE_CHECKING:\n    from ..a import one\n",
        "ppi_med.b.four": "def h(a, b, c, d, e, f, g, i, j, *, k, m): subject_weights(a)\n",
    }
    monkeypatch.setattr(house, "sources", lambda: made)
    counts = house.counts()
    assert counts["files"][0] == 7 and counts["lines"][0] == 6
    assert counts["circles"][1] == ["ppi_med.a.one <-> ppi_med.a.two <-> ppi_med.b.three"]
    assert counts["packages without a guard"][1] == ["a", "b"]
    assert counts["functions over ten arguments"][1] == ["ppi_med.b.four.h (11)"]
    assert counts["intervals by resampling"][1] == ["ppi_med.b.four"]
    assert counts["pools"][0] == counts["table writers"][0] == 0
