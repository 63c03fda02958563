import pytest
import torch

from ppi_med.networks import relative_positions


def test_full_volume_takes_each_id_once():
    assert relative_positions(100).tolist() == list(range(1, 101))


@pytest.mark.parametrize("slices", [1, 2, 7, 97, 99, 100, 101, 145, 512])
def test_ids_follow_the_relative_place(slices):
    """Against the definition, slice by slice in exact fractions."""
    from fractions import Fraction
    from math import floor

    expected = [1 + floor(Fraction(2 * i + 1, 2 * slices) * 100) for i in range(slices)]
    positions = relative_positions(slices)
    assert positions.dtype == torch.int64
    assert positions.tolist() == expected
    assert min(expected) >= 1 and max(expected) <= 100


def test_larger_volumes_give_each_id_equally_often():
    assert torch.bincount(relative_positions(300))[1:].tolist() == [3] * 100


def test_single_slice_lies_in_the_middle():
    assert relative_positions(1, 5).tolist() == [3]
