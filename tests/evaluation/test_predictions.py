from __future__ import annotations

import sys
from subprocess import run

import numpy as np
import pytest

from ppi_med import naming
from ppi_med.evaluation import (
    AUC,
    BRIER,
    CALIBRATION_ERROR,
    Predictions,
    accuracy_at,
    sensitivity_at,
)


def rows(seed=0, n=30, noise=0.3):
    rng = np.random.default_rng(seed)
    return [
        {
            "volume_id": f"v{i:03d}",
            "subject": f"s{i // 2}",
            "site": "AB"[i % 2],
            "label": int(i % 3 == 0),
            "score": float(np.clip((i % 3 == 0) * 0.4 + 0.3 + noise * rng.normal(), 0, 1)),
        }
        for i in range(n)
    ]


def test_directions():
    assert AUC.better(0.8, than=0.7) and not AUC.better(0.7, than=0.7)
    assert BRIER.better(0.1, than=0.2) and not BRIER.better(0.3, than=0.2)
    assert AUC.better(0.1, than=float("nan")) and not AUC.better(float("nan"), than=0.1)
    assert AUC.best([0.5, 0.9, float("nan"), 0.9]) == 1
    assert CALIBRATION_ERROR.best([0.5, 0.1]) == 1
    with pytest.raises(ValueError, match="no value"):
        AUC.best([float("nan")])
    assert AUC.direction == naming.direction(naming.VAL_AUC)
    assert accuracy_at(0.5).direction == sensitivity_at(0.5).direction == 1


def test_csv_comes_back_exactly(tmp_path):
    predictions = Predictions.from_rows(rows())
    path = predictions.write(tmp_path / "a" / "predictions.csv")
    again = Predictions.read(path)
    for name in ("volume_id", "subject", "site", "label", "score"):
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
    assert path.read_text().splitlines()[0] == "volume_id,subject,site,label,score"


def test_rows_are_ordered_by_case_whatever_came_first():
    forward, backward = rows(), rows()[::-1]
    a, b = Predictions.from_rows(forward), Predictions.from_rows(backward)
    np.testing.assert_array_equal(a.score, b.score)


def test_a_padded_case_is_kept_once_and_a_contradiction_is_refused():
    found = rows(n=4)
    assert len(Predictions.from_rows([*found, found[0]])) == 4
    with pytest.raises(ValueError, match="v000.*two different rows"):
        Predictions.from_rows([*found, {**found[0], "score": 0.123}])


@pytest.mark.parametrize(
    ("change", "words"),
    [({"label": "2"}, "expected 0 or 1"), ({"score": "high"}, "two numbers")],
)
def test_a_wrong_file_is_named(tmp_path, change, words):
    header = "volume_id,subject,site,label,score"
    row = {**rows(n=1)[0], **change}
    path = tmp_path / "wrong.csv"
    path.write_text(header + "\n" + ",".join(str(v) for v in row.values()) + "\n")
    with pytest.raises(ValueError, match=f"wrong.csv.*{words}"):
        Predictions.read(path)


def test_a_file_of_something_else_is_named(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="other.csv lacks the columns"):
        Predictions.read(path)


def test_an_unknown_subject_stands_for_itself():
    first, *others = rows(n=3)
    found = Predictions.from_rows([first, *({**row, "subject": ""} for row in others)])
    assert found.units.tolist() == ["s0", "case v001", "case v002"]


def test_sites_are_selected():
    of_site = Predictions.from_rows(rows()).of_site("A")
    assert set(of_site.site.tolist()) == {"A"} and len(of_site) == 15


def test_importing_the_measures_is_cheap():
    code = (
        "from ppi_med.evaluation import AUC, Predictions, interval; import sys;"
        "heavy = ('torch', 'monai', 'mlflow', 'matplotlib', 'sklearn');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
