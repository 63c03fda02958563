from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised, Randomizable
from torch.utils.data import DistributedSampler, Subset

from ppi_med.training import EpochSampler, ExactDataLoader, SeededDataset
from ppi_med.training.loader import Draw


class Noise(Randomizable):
    """One number from each source of randomness that a transform may use."""

    def __call__(self, item):
        return {
            "case": item,
            "own": self.R.random(),
            "python": random.random(),
            "numpy": np.random.random(),
            "torch": torch.rand(()).item(),
        }


def batches(loader, epoch, start=0):
    loader.set_epoch(epoch)
    loader.start_at(start)
    return [{k: torch.as_tensor(v).tolist() for k, v in batch.items()} for batch in loader]


def noisy(workers=0, batch_size=3, cases=10, **options):
    more = {"multiprocessing_context": "fork"} if workers else {}
    return ExactDataLoader(
        Dataset(list(range(cases)), Noise()),
        batch_size=batch_size,
        seed=4,
        num_workers=workers,
        **options,
        **more,
    )


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_make_no_difference(persistent):
    expected = [batches(noisy(), epoch) for epoch in (1, 2)]
    loader = noisy(workers=2, persistent_workers=persistent)
    assert [batches(loader, epoch) for epoch in (1, 2)] == expected
    assert expected[0] != expected[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_it_starts_at_any_batch(workers):
    expected = batches(noisy(), 3)
    for start in range(4):
        assert batches(noisy(workers), 3, start) == expected[start:]
    loader = noisy(workers)
    assert len(loader) == 4
    batches(loader, 3, 2)
    assert batches(loader, 3) == expected


def test_a_case_looks_the_same_for_any_batch_size():
    def by_case(loader):
        found = {}
        for batch in batches(loader, 1):
            for i, case in enumerate(batch["case"]):
                found[case] = tuple(batch[key][i] for key in ("own", "python", "numpy", "torch"))
        return found

    assert by_case(noisy(batch_size=3)) == by_case(noisy(batch_size=5))
    assert len(set(by_case(noisy()).values())) == 10


def test_nothing_is_drawn_from_the_global_generators():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    batches(noisy(), 1)
    batches(noisy(workers=2), 1)
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


def test_the_global_generators_are_put_back_after_an_exception():
    class Broken:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise OSError(f"no file {random.random()}")

    state = random.getstate()
    with pytest.raises(OSError, match="no file"):
        SeededDataset(Broken())[Draw(0, 1)]
    assert random.getstate() == state


def test_another_seed_another_order():
    a = [draw.case for draw in EpochSampler(range(50), seed=1)]
    b = [draw.case for draw in EpochSampler(range(50), seed=2)]
    assert a != b and sorted(a) == sorted(b) == list(range(50))


def test_without_shuffle_the_order_is_kept_and_the_augmentation_still_changes():
    loader = noisy(shuffle=False)
    first, second = batches(loader, 1), batches(loader, 2)
    assert [b["case"] for b in first] == [b["case"] for b in second]
    assert [b["own"] for b in first] != [b["own"] for b in second]


def test_another_round_in_the_same_epoch_is_another_order():
    loader = noisy()
    loader.set_epoch(1)
    rounds = [[batch["case"].tolist() for batch in loader] for _ in range(2)]
    assert rounds[0] != rounds[1]
    loader.set_epoch(1)
    loader.start_at(len(loader) + 1)
    assert [batch["case"].tolist() for batch in loader] == rounds[1][1:]


def test_processes_share_the_epoch_out():
    whole = list(EpochSampler(range(10), seed=1))
    for processes in (2, 3):
        shares = [
            list(EpochSampler(range(10), seed=1, num_replicas=processes, rank=rank))
            for rank in range(processes)
        ]
        assert len({len(share) for share in shares}) == 1
        merged = [draw for step in zip(*shares, strict=True) for draw in step]
        assert merged[:10] == whole
        assert [draw.case for draw in merged[10:]] == [d.case for d in whole[: len(merged) - 10]]


def test_weights_draw_rare_cases_more_often():
    sampler = EpochSampler(range(100), seed=0, weights=[9.0] * 10 + [1.0] * 90)
    found = Counter()
    for epoch in range(1, 21):
        sampler.set_epoch(epoch)
        found.update(draw.case < 10 for draw in sampler)
    assert found[True] / found.total() == pytest.approx(0.5, abs=0.05)
    sampler.set_epoch(1)
    seeds = [draw.seed for draw in sampler]
    assert len(set(seeds)) == 100  # a case that comes twice is augmented twice


def test_monai_tells_it_the_epoch():
    assert isinstance(EpochSampler(range(3)), DistributedSampler)


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, range(4))])
def test_random_transforms_are_found_wherever_the_dataset_keeps_them(wrap):
    augment = Compose([RandGaussianNoised("image", prob=1.0), RandFlipd("image", prob=0.5)])
    items = [{"image": np.zeros((1, 4, 4), dtype=np.float32)} for _ in range(4)]
    seeded = SeededDataset(wrap(CacheDataset(items, augment, progress=False)))
    first = seeded[Draw(1, seed=9)]["image"]
    seeded[Draw(2, seed=5)]
    assert torch.equal(torch.as_tensor(seeded[Draw(1, seed=9)]["image"]), torch.as_tensor(first))
    assert not torch.equal(
        torch.as_tensor(seeded[Draw(1, seed=8)]["image"]), torch.as_tensor(first)
    )


def test_a_plain_index_is_refused():
    with pytest.raises(TypeError, match="expected a Draw"):
        SeededDataset([1, 2])[0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sampler": None}, TypeError),
        ({"generator": None}, TypeError),
        ({"weights": [1.0]}, ValueError),
        ({"weights": [-1.0] * 10}, ValueError),
        ({"weights": [0.0] * 10}, ValueError),
    ],
)
def test_wrong_options_are_refused(options, error):
    with pytest.raises(error):
        noisy(**options)
    with pytest.raises(ValueError, match="seed=-1"):
        EpochSampler(range(3), seed=-1)
