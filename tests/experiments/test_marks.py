"""Each mark alone, and detection: their cells, and tables by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.errors import UsageError
from ppi_med.experiments.detection import Detection
from ppi_med.experiments.shortcut import FURTHER_MARKS, LATER_MARKS, Marks
from ppi_med.phantoms.oct.artefacts import FURTHER, burn_in


def marks(**options: Any) -> Marks:
    return Marks(Path("bundle"), Path("data"), Path("work"), **options)


def test_cells_are_every_mark_agreement_and_method() -> None:
    cells = marks(methods=("plain", "auto"), seeds=(0, 1)).cells()
    assert len({cell.name for cell in cells}) == len(cells) == 4 * 5 * 2 * 2
    assert all(cell.overrides["seed"] == cell.keys["seed"] for cell in cells)
    with pytest.raises(UsageError, match="mark is 'dot'"):
        marks(marks=("dot",))


def test_only_d_bat_sees_unlabelled_eyes() -> None:
    cells = marks(methods=("plain", "d_bat"), marks=("band",), agreements=("0.9",)).cells()
    assert [c.overrides.get("unlabelled") for c in cells] == [None, "data/band-few"]


def record(agreement: str, method: str, auc: float, cpu: float) -> dict[str, Any]:
    keys = {"mark": "band", "agreement": agreement, "method": method, "seed": 0}
    return {**keys, "test/auc": auc, "cpu_seconds": cpu}


def test_table_says_gap_closed_and_cost() -> None:
    records = [
        record("1.0", "plain", 0.5, 10),
        record("1.0", "auto", 0.8, 20),
        record("none", "plain", 0.9, 10),
    ]
    first, none = Marks.tables(records)
    by_method = {row[0]: row for row in first.texts()}
    assert by_method["auto"][2].startswith("0.800") and by_method["auto"][-2:] == ["75%", "2.00"]
    assert by_method["ceiling"][2].startswith("0.900")
    assert by_method["plain"][1] == "", "no record of the logo"
    assert len(none.rows) == 1


@pytest.mark.parametrize("marks_of", [FURTHER_MARKS, LATER_MARKS])
def test_further_and_later_artefacts_share_the_first_sites_ceiling(
    marks_of: tuple[str, ...],
) -> None:
    name, number = marks_of[3], 4
    cells = marks(marks=("logo", name), methods=("plain",), seeds=(0,)).cells()
    assert [c.name for c in cells if "none" in c.name] == ["logo-none-plain-seed0"]
    records = [
        {**record("1.0", "plain", 0.5, 10), "mark": name},
        {**record("1.0", "auto", 0.6, 20), "mark": name},
        {**record("none", "plain", 0.9, 10), "mark": "logo"},
    ]
    further, _ = Marks.tables(records)
    assert further.columns[1 : 1 + len(marks_of)] == marks_of
    by_method = {row[0]: row for row in further.texts()}
    assert by_method["auto"][-2:] == ["25%", "2.00"]
    assert by_method["ceiling"][number].startswith("0.900")


def test_detection_counts_alarms() -> None:
    cells = Detection().cells()
    assert sum(cell.keys["kind"] == "none" for cell in cells) == 20
    rounds = [{"j_net": 0.8}, {"j_net": 0.1}]
    base = {"places": [{"j": 0.9}], "j_net": 0.8, "area": 0.03, "history": rounds}
    records = [
        {**base, "kind": "logo", "agreement": "1.0", "shortcut": True, "found": "place"},
        {**base, "kind": "none", "agreement": "none", "shortcut": False, "found": "none"},
    ]
    (table,) = Detection.tables(records)
    assert [row[2] for row in table.texts()] == ["1 of 1", "0 of 1"]
    assert table.columns[-1] == "left" and table.texts()[0][-1] == "0.10"


@pytest.mark.parametrize("name", FURTHER)
def test_further_artefacts_change_the_image_and_repeat_themselves(name: str) -> None:
    eye = np.random.default_rng(0).integers(20, 200, (64, 80, 4)).astype(np.uint8)
    one, two = eye.copy(), eye.copy()
    burn_in(one, name, np.random.default_rng(3))
    burn_in(two, name, np.random.default_rng(3))
    assert np.array_equal(one, two) and not np.array_equal(one, eye)
    assert one.dtype == np.uint8
    changed = (one != eye).any(2).mean()
    placed = ("corner", "jitter", "retina", "border", "scan_line", "some_scans")
    assert changed < (0.05 if name in placed else 0.1 if name == "every_scan" else 1.01)
    assert changed > (0.0 if name in (*placed, "every_scan") else 0.5)
