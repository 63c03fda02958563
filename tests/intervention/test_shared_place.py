from __future__ import annotations

import pytest
import torch
from torch import distributed, multiprocessing

from ppi_med.intervention import SharedPlace


def batches(*shape, count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, dtype=torch.float64, generator=generator)


def slow_running_mean(data, momentum, average_slices=False):
    running = None
    for batch in data:
        total = torch.zeros_like(batch[0, 0])
        for sample in batch:
            total = total + sample[0]
        mean = total / len(batch)
        if average_slices:
            mean = (sum(mean[s] for s in range(len(mean))) / len(mean))[None]
        running = mean if running is None else momentum * running + (1 - momentum) * mean
    return running[None, None]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_equals_slow_running_mean(momentum):
    data = batches(3, 1, 5, 4)
    place = SharedPlace(momentum)
    for i, batch in enumerate(data):
        seen = data[: i + 1] if momentum else data[i : i + 1]
        assert torch.allclose(place.update(batch), slow_running_mean(seen, momentum))


def test_slices_are_averaged_and_may_vary_in_number():
    data = batches(3, 1, 6, 5, 4)
    place = SharedPlace(0.9, axes=(0, 2))
    for i, batch in enumerate(data):
        mean = place.update(batch)
        assert mean.shape == (1, 1, 1, 5, 4)
        assert torch.allclose(mean, slow_running_mean(data[: i + 1], 0.9, average_slices=True))
    place.update(data[0][:, :, :2])


def test_gradient_only_of_this_batch_and_only_if_wanted():
    data = batches(2, 1, 3, 3).requires_grad_()
    place = SharedPlace(0.75, detach=False)
    place.update(data[0])
    (gradient,) = torch.autograd.grad(place.update(data[1]).sum(), data)
    assert (gradient[0] == 0).all()
    assert torch.allclose(gradient[1], torch.full_like(gradient[1], 0.25 / 2))
    assert not SharedPlace().update(data[0]).requires_grad
    assert not place.mean.requires_grad


def test_rests_on_one_map():
    one, two = batches(1, 1, 3, 3)[0], batches(2, 1, 3, 3)[0]
    place = SharedPlace()
    assert place.rests_on_one_map(one) and not place.rests_on_one_map(two)
    place.update(two)
    assert not place.rests_on_one_map(one)
    without_memory = SharedPlace(momentum=0.0)
    without_memory.update(two)
    assert without_memory.rests_on_one_map(one)


def test_resume_is_bitwise_through_a_file(tmp_path):
    data = batches(3, 1, 5, 5).float()
    whole = SharedPlace()
    expected = [whole.update(b) for b in data]
    first, second = SharedPlace(), SharedPlace()
    first.update(data[0])
    first.update(data[1])
    torch.save(first.state_dict(), tmp_path / "place.pt")
    second.load_state_dict(torch.load(tmp_path / "place.pt", weights_only=True))
    assert torch.equal(second.update(data[2]), expected[2])
    assert torch.equal(second.update(data[3]), expected[3])
    fresh = SharedPlace()
    fresh.load_state_dict(SharedPlace().state_dict())
    assert torch.equal(fresh.update(data[0]), expected[0])


def test_state_is_a_copy():
    place = SharedPlace()
    place.update(batches(2, 1, 3, 3)[0])
    state = place.state_dict()
    before = state["mean"].clone()
    place.update(batches(2, 1, 3, 3)[1])
    assert torch.equal(state["mean"], before)


def test_other_dtypes_continue():
    place = SharedPlace()
    place.update(batches(2, 1, 3, 3)[0])
    assert place.update(batches(2, 1, 3, 3)[1].half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: SharedPlace(momentum=1.0), "momentum is 1.0"),
        (lambda: SharedPlace(axes=(2,)), r"axes are \[2\]"),
        (lambda: SharedPlace(axes=(0, 1)), r"axes are \[0, 1\]"),
        (lambda: SharedPlace(axes=(0, 4)).update(torch.rand(2, 1, 3, 3)), "don't exist"),
        (lambda: SharedPlace().update(torch.rand(2, 3, 3, 3)), "3 channels"),
    ],
)
def test_wrong_arguments(make, part):
    with pytest.raises(ValueError, match=part):
        make()


def test_changed_size_is_refused():
    place = SharedPlace()
    place.update(torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"shape \(1, 1, 4, 4\).*average to \(1, 1, 4, 5\)"):
        place.update(torch.rand(2, 1, 4, 5))


def _process(rank: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    data = batches(5, 1, 3, 3, count=2)
    place = SharedPlace(0.5, detach=False)
    for batch in data:
        own = (batch[:2] if rank == 0 else batch[2:]).clone().requires_grad_()
        mean = place.update(own)
    (gradient,) = torch.autograd.grad(mean.sum(), own)
    torch.save((mean.detach(), gradient), f"{out}{rank}")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_share_one_place(tmp_path):
    """Two and three samples on two processes: the mean of the five, the same on both."""
    arguments = (str(tmp_path / "store"), str(tmp_path / "out"))
    multiprocessing.spawn(_process, arguments, nprocs=2)
    expected = slow_running_mean(batches(5, 1, 3, 3, count=2), 0.5)
    results = [torch.load(f"{arguments[1]}{rank}") for rank in range(2)]
    assert torch.equal(results[0][0], results[1][0])
    for mean, gradient in results:
        assert torch.allclose(mean, expected)
        assert torch.allclose(gradient, torch.full_like(gradient, 0.5 / 5))


def test_a_held_place_equals_its_recursion_written_out():
    data = batches(3, 1, 5, 4, count=12)
    place, plain = SharedPlace(0.75, release=0.5), SharedPlace(0.75)
    held = None
    for number, batch in enumerate(data, start=1):
        mean = plain.update(batch)
        if number >= 8:  # 2 / (1 - 0.75)
            held = mean if held is None else torch.maximum(0.5 * held, mean)
        assert torch.equal(place.update(batch), mean if held is None else held)


def test_a_place_that_is_no_longer_shown_stays_covered_for_a_while():
    seen, unseen = torch.tensor([[[1.0, 0.2]]]), torch.tensor([[[0.0, 0.2]]])
    held, forgotten = SharedPlace(0.5, release=0.9), SharedPlace(0.5)
    for maps in [seen] * 8 + [unseen] * 8:
        places = held.update(maps), forgotten.update(maps)
    assert places[0].argmax() == 0
    assert places[1].argmax() == 1


def test_a_held_place_is_saved_and_restored():
    data = batches(2, 1, 3, 3, count=10)
    place = SharedPlace(0.75, release=0.9)
    for batch in data[:9]:
        place.update(batch)
    other = SharedPlace(0.75, release=0.9)
    other.load_state_dict(place.state_dict())
    assert torch.equal(other.update(data[9]), place.update(data[9]))


@pytest.mark.parametrize("release", [-0.1, 1.0])
def test_a_release_outside_its_range_is_refused(release):
    with pytest.raises(ValueError, match="release is"):
        SharedPlace(release=release)
