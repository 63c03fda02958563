from __future__ import annotations

import logging
from typing import Any

import pytest

from ppi_med.bundle_tools.preflight import require_folds_of_training
from ppi_med.errors import UsageError

HERE = {"data_hash": "data", "split_hash": "splits"}
CROSSED = {**HERE, "fold": 2, "test_fold": 2}
PARTED = {**HERE, "fold": 2, "test_fold": None}
PLAIN = {**HERE, "fold": None, "test_fold": None}
OLD = {**HERE, "fold": 2}


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        (CROSSED, {"test_fold": 2}),
        (CROSSED, {"test_fold": 2, "part": "validation"}),
        # The splits' own test part, which no fold trains on.
        (CROSSED, {}),
        (PARTED, {}),
        (PARTED, {"fold": 0}),
        (PARTED, {"fold": 2, "part": "validation"}),
        (PLAIN, {}),
        (PLAIN, {"part": "validation"}),
        (OLD, {"test_fold": 2}),
        (OLD, {"fold": 2, "part": "validation"}),
        # Who asks for the training's patients gets them.
        (CROSSED, {"test_fold": 0, "part": "training"}),
        # The same patients, cut out anew.
        ({**CROSSED, "data_hash": "before"}, {"test_fold": 2}),
    ],
)
def test_no_patient_of_the_training(
    trained: dict[str, Any], asked: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    require_folds_of_training(trained, HERE, **asked)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("trained", "asked", "remedy"),
    [
        (CROSSED, {"test_fold": 0}, "Give --test_fold 2, as in training."),
        (CROSSED, {"part": "validation"}, "Give --test_fold 2, as in training."),
        # Splits that depend on the choice, as those of nodules in npz arrays.
        ({**CROSSED, "split_hash": "crossed"}, {}, "Give --test_fold 2, as in training."),
        ({**OLD, "split_hash": "crossed"}, {}, "Give --test_fold 2 or --fold 2, as in training."),
        ({**CROSSED, "data_hash": "before"}, {"test_fold": 0}, "Give --test_fold 2"),
        (PARTED, {"test_fold": 2}, "Give --fold 2, as in training."),
        (PARTED, {"fold": 0, "part": "validation"}, "Give --fold 2, as in training."),
        (PLAIN, {"test_fold": 0}, "Leave --test_fold and --fold out."),
        (OLD, {"test_fold": 0}, "Give --test_fold 2 or --fold 2, as in training."),
        ({**PLAIN, "split_hash": "before"}, {}, "put the splits.json of the training back"),
    ],
)
def test_patients_of_the_training_are_refused(
    trained: dict[str, Any], asked: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(UsageError) as caught:
        require_folds_of_training(trained, HERE, **asked)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        ({}, "No model.json"),
        ({"fold": 1, "data_hash": None, "split_hash": None}, "No model.json"),
        ({**CROSSED, "data_hash": "x", "split_hash": "y"}, "trained on other data"),
    ],
)
def test_what_is_not_known_is_a_warning(
    trained: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        require_folds_of_training(trained, HERE, test_fold=0)
    (record,) = caplog.records
    assert words in record.getMessage()
