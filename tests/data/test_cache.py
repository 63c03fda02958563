from __future__ import annotations

import logging

import pytest
from monai.data import CacheDataset

from ppi_med import pace
from ppi_med.data import PacedCacheDataset


def test_holds_what_monais_holds() -> None:
    items = [{"image": number} for number in range(5)]
    expected = CacheDataset(items, dict, cache_rate=0.6, progress=False)
    cached = PacedCacheDataset(items, dict, cache_rate=0.6)
    assert list(cached) == list(expected)
    assert cached.cache_num == expected.cache_num == 3


def test_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace, "SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "ppi_med"):
        PacedCacheDataset([1, 2, 3], num_workers=1)
    assert [line.split(",")[0] for line in caplog.messages] == [
        "cases read: 1 of 3",
        "cases read: 2 of 3",
    ]


def test_says_nothing_of_a_short_one(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "ppi_med"):
        PacedCacheDataset([1, 2, 3])
    assert not caplog.messages
    assert capsys.readouterr() == ("", "")
