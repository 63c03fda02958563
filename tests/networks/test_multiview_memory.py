"""Evaluation in chunks holds one chunk's activations, however many slices there are."""

import gc
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ppi_med.networks import MultiViewClassifier


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make while they are alive."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves(args) if torch.is_tensor(t)}
        for tensor in tree_leaves(output):
            if torch.is_tensor(tensor):
                self._follow(tensor.untyped_storage(), given)
        return output

    def _follow(self, storage, given):
        key = storage._cdata
        if key in given or key in self.known:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def peak(slices, chunk_size):
    torch.manual_seed(0)
    net = MultiViewClassifier(chunk_size=chunk_size).eval()
    volume = torch.zeros(1, 1, slices, 32, 32)
    gc.collect()
    with torch.no_grad(), LiveBytes() as live:
        net(volume)
    return live.peak


def test_peak_does_not_grow_with_the_slices():
    one_chunk = peak(4, 4)
    assert one_chunk > 4 * 16 * 32 * 32 * 4  # the first layer's output alone: the meter counts
    features = 96 * 64 * 4
    assert peak(96, 4) < one_chunk + 4 * features
    assert peak(96, 0) > 20 * one_chunk


def test_peak_follows_the_chunk_size():
    assert peak(32, 16) > 3 * peak(32, 4)
