"""The tables of weak masks: means and pairs by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ppi_med.experiments.lidc_nodules import _groups, _mask_tables
from ppi_med.experiments.records import pack_values, unpack_values
from ppi_med.experiments.table import Table, markdown

KIND = "union/centred"


def record(entry: str, fold: int, seed: int = 0, **masks: list[float]) -> dict[str, Any]:
    count = len(next(iter(masks.values())))
    names = [f"f{fold}n{k}" for k in range(count)]
    return {
        "entry": entry,
        "fold": fold,
        "seed": seed,
        "predictions": {
            "volume_id": " ".join(names),
            "subject": " ".join(f"f{fold}p{k // 2}" for k in range(count)),
        },
        "masks": {
            f"{KIND}/{name}": pack_values(dict(zip(names, values, strict=True)), names)
            for name, values in masks.items()
        },
    }


def mask_tables(records: list[dict[str, Any]], repeats: int = 20) -> list[Table]:
    return _mask_tables(_groups(records), repeats)


def cells(table: Table, entry: str) -> list[list[float]]:
    """The cells of an entry: each a mean and its ends, or nothing."""
    (row,) = [row for row in table.texts() if row[0] == entry]
    return [[float(part.strip("[],")) for part in text.split()] for text in row[1:]]


def test_means_floor_and_pairs_by_hand() -> None:
    records = [
        record("plain", 0, floor=[0.5, 0.4, 0.3, 0.2], wbp=[0.6, 0.5, 0.4, 0.3]),
        record("plain", 1, floor=[0.1, 0.1], wbp=[0.3, 0.1]),
        record("ppi_wbp_box", 1, floor=[0.1, 0.1], wbp=[0.7, 0.2]),
        record("ppi_wbp_box", 0, floor=[0.5, 0.4, 0.3, 0.2], wbp=[0.6, 0.5, 0.4, 0.3]),
    ]
    (table,) = mask_tables(records, repeats=200)
    assert (table.name, table.columns[1]) == ("masks_union_centred", "wbp")
    assert f"floor {1.6 / 6:.3f} [" in table.title
    plain, box = cells(table, "plain"), cells(table, "ppi_wbp_box")
    assert plain[0][0] == pytest.approx(2.2 / 6, abs=6e-4)
    assert plain[1][0] == pytest.approx(0.1)
    assert plain[2] == []
    assert box[2][0] == pytest.approx(0.5 / 6, abs=6e-4)
    for value, low, high in (*plain[:2], *box):
        assert low <= value <= high


def test_readers_that_can_not_be_compared_do_not_count() -> None:
    ceiling = [0.8, math.nan, 0.6, math.nan]
    (table,) = mask_tables([record("plain", 0, ceiling=ceiling, wbp=[0.5] * 4)], repeats=50)
    assert "ceiling 0.700 [" in table.title


def test_further_seeds_are_paired_with_their_own() -> None:
    records = [
        record("plain", 0, 0, wbp=[0.5] * 4),
        record("plain", 0, 1, wbp=[0.1] * 4),
        record("ppi_wbp_box", 0, 1, wbp=[0.4] * 4),
    ]
    (table,) = mask_tables(records, repeats=20)
    above, gain = cells(table, "ppi_wbp_box")[-2:]
    assert gain[0] == pytest.approx(0.3)
    assert above == []  # no floor was kept


def test_tables_in_order_and_in_words() -> None:
    one = record("plain", 0, floor=[0.5] * 4, wbp=[0.25] * 4)
    one["masks"] |= {"majority/shifted/wbp": one["masks"][f"{KIND}/wbp"],
                     "union/shifted/wbp": one["masks"][f"{KIND}/wbp"]}  # fmt: skip
    tables = mask_tables([one])
    kinds = ["union_centred", "union_shifted", "majority_shifted"]
    assert [table.name for table in tables] == [f"masks_{kind}" for kind in kinds]
    assert markdown(tables[0]).splitlines() == [
        "Dice against the union, centred crops; floor 0.500 [0.500, 0.500]:",
        "",
        "| method | wbp | wbp, above the floor | wbp, to plain |",
        "| --- | --- | --- | --- |",
        "| plain | 0.250 [0.250, 0.250] | -0.250 [-0.250, -0.250] |  |",
    ]


def test_records_without_masks_are_left_out() -> None:
    empty = {**record("lotenet", 0, wbp=[0.5] * 4), "masks": {}}
    assert mask_tables([empty]) == []
    (table,) = mask_tables([empty, record("plain", 0, wbp=[0.5] * 4)], repeats=20)
    assert [row[0] for row in table.rows] == ["plain"]


def test_packed_values_come_back() -> None:
    values = {f"n{k}": float(v) for k, v in enumerate(np.random.default_rng(0).uniform(0, 1, 50))}
    values["n7"] = math.nan
    names = sorted(values)
    back = unpack_values(pack_values(values, names))
    wanted = np.array([values[name] for name in names])
    assert (np.isnan(back) == np.isnan(wanted)).all()
    assert np.nanmax(abs(back - wanted)) <= 0.0005
