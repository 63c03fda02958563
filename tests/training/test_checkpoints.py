from __future__ import annotations

import random
from collections import OrderedDict, namedtuple
from enum import Enum

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from ppi_med.training import CheckpointStore
from ppi_med.training.checkpoints import plain
from ppi_med.training.rng import give_state, take_state


def test_the_newest_comes_back_and_the_one_before_is_kept(tmp_path):
    store = CheckpointStore(tmp_path)
    for iteration in (5, 10, 15, 100):
        store.save({"iteration": iteration, "weights": torch.full((3,), iteration)}, iteration)
    assert store.load()["iteration"] == 100
    assert len(list(tmp_path.iterdir())) == 2
    assert [path.name[:21] for path in store.files()] == [
        "checkpoint_0000000100",
        "checkpoint_0000000015",
    ]


def test_a_damaged_one_takes_no_place(tmp_path):
    store = CheckpointStore(tmp_path)
    for iteration in (10, 20):
        store.save({"iteration": iteration}, iteration)
    store.files()[0].write_bytes(b"torn")
    resumed = CheckpointStore(tmp_path)
    assert resumed.load() == {"iteration": 10}
    for iteration in (13, 16):
        resumed.save({"iteration": iteration}, iteration)
    # Were the newest to be torn as well, the one before is there.
    resumed.files()[1].write_bytes(b"torn")
    assert CheckpointStore(tmp_path).load() == {"iteration": 13}
    resumed.save({"iteration": 20}, 20)
    resumed.save({"iteration": 23}, 23)
    assert [int(path.name[11:21]) for path in resumed.files()] == [23, 20]


def test_an_empty_folder_has_none(tmp_path):
    assert CheckpointStore(tmp_path / "none").load() is None


def test_of_the_same_iteration_the_later_written_wins(tmp_path):
    store = CheckpointStore(tmp_path)
    for value in (1, 2):
        store.save({"value": value}, 7)
    assert store.load()["value"] == 2


def test_other_files_are_left_alone(tmp_path):
    other = tmp_path / "checkpoint_final.pt"
    other.write_bytes(b"mine")
    store = CheckpointStore(tmp_path)
    for iteration in range(4):
        store.save({}, iteration)
    store.clear()
    assert list(tmp_path.iterdir()) == [other]


def test_a_failed_save_leaves_the_old_one(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save({"value": 1}, 1)
    with pytest.raises(TypeError, match=r"state\['objects'\]\['x'\] holds a"):
        store.save({"objects": {"x": object()}}, 2)
    assert store.load() == {"value": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_saved_needs_no_pickle_of_classes(tmp_path):
    pair = namedtuple("pair", "a b")
    state = {
        "numbers": [1, 2.5, True, None, 1j],
        "numpy": {"a": np.float64(0.1), "b": np.int64(3), "c": np.bool_(True), "d": np.str_("s")},
        "tuple": (1, (2, "x")),
        "named": pair(1, torch.ones(2)),
        "set": {1, 2},
        "ordered": OrderedDict(x=torch.arange(3)),
        "meta": MetaTensor(torch.ones(2), meta={"file": "a"}),
        "bytes": b"abc",
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
    }
    store = CheckpointStore(tmp_path)
    store.save(state, 1)
    found = store.load()
    assert found["numpy"] == {"a": 0.1, "b": 3, "c": True, "d": "s"}
    assert type(found["numpy"]["a"]) is float
    assert found["named"][0] == 1 and type(found["named"]) is tuple
    assert type(found["meta"]) is torch.Tensor
    assert type(found["ordered"]) is OrderedDict


@pytest.mark.parametrize("value", [np.zeros(2), lambda: 0, Enum("E", "A").A])
def test_what_could_not_be_read_back_is_refused_when_saving(value):
    with pytest.raises(TypeError, match="change its state_dict"):
        plain({"value": value})


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    path = CheckpointStore(tmp_path).save({"view": torch.zeros(1_000_000)[:2]}, 1)
    assert path.stat().st_size < 10_000


def test_random_states_survive_a_file(tmp_path):
    store = CheckpointStore(tmp_path)
    torch.randn(3), np.random.normal(), random.gauss(0, 1)  # leave half a pair behind
    store.save(take_state(), 1)

    def draws():
        return [
            random.random(),
            random.gauss(0, 1),
            *np.random.normal(size=3),
            *torch.randn(5).tolist(),
        ]

    expected = draws()
    assert draws() != expected
    give_state(store.load())
    assert draws() == expected
