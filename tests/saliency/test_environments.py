"""Around the network: data parallel wrappers, compilation, threads, anomaly detection."""

from __future__ import annotations

import copy
import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ppi_med.saliency import LRP, WBP, GradCAM
from ppi_med.saliency.lrp import AlphaBeta, Flat
from tests.saliency.small_networks import NETWORKS, Mixed, Small, build


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("find_unused", [False, True])
def test_distributed_data_parallel(one_process: None, find_unused: bool) -> None:
    """With find_unused_parameters the output passes an autograd function of torch's own."""
    module, image = build(NETWORKS[2])
    expected = WBP()(module, image, 1)
    wrapped = DistributedDataParallel(module, find_unused_parameters=find_unused)
    recording = WBP().record(wrapped, image)
    assert torch.equal(recording.saliency(1), expected)
    recording.output.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_compiled_network_runs_as_it_is_written() -> None:
    module, image = build(NETWORKS[2])
    compiled = torch.compile(module, backend="eager")
    expected = WBP()(module, image, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the compiler, about what it cannot follow
        assert torch.equal(WBP()(compiled, image, 1), expected)
    plain = compiled(image)
    assert torch.allclose(plain, module(image))
    assert torch.equal(WBP()(compiled, image, 1), expected)


@pytest.mark.parametrize("wrapper", ["parallel", "compiled", "both", "a part compiled"])
def test_names_of_layers_inside_wrappers(one_process: None, wrapper: str) -> None:
    module, image = build(NETWORKS[2])
    lrp = LRP(AlphaBeta(2, 1), names={"fir*": Flat()})
    expected = [method(module, image, 1) for method in (lrp, GradCAM("first"))]
    assert not torch.equal(expected[0], LRP(AlphaBeta(2, 1))(module, image, 1))
    if wrapper in ("compiled", "both"):
        module = torch.compile(module, backend="eager")
    if wrapper in ("parallel", "both"):
        module = DistributedDataParallel(module)
    if wrapper == "a part compiled":
        module.first = torch.compile(module.first, backend="eager")
    module(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of the compiler, about what it cannot follow
        found = [method(module, image, 1) for method in (lrp, GradCAM("first"))]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_rule_for_a_layer_that_is_not_there() -> None:
    module, image = build(NETWORKS[2])
    with pytest.raises(ValueError, match=r"named for 'firts\.\*', which no module"):
        LRP(names={"firts.*": Flat()})(module, image, 1)
    with pytest.raises(ValueError, match="of a module and not of a function"):
        LRP(names={"first": Flat()})(lambda x: module(x), image, 1)


def test_threads_with_networks_of_their_own() -> None:
    module, image = build(NETWORKS[2])
    expected = WBP()(module, image, 1)
    found: list[Tensor] = []

    def work() -> None:
        own = copy.deepcopy(module)
        found.extend(WBP()(own, image, 1) for _ in range(5))

    own_networks = [threading.Thread(target=work) for _ in range(3)]
    for thread in own_networks:
        thread.start()
    for thread in own_networks:
        thread.join()
    assert len(found) == 15
    assert all(torch.allclose(s, expected, rtol=1e-12) for s in found)


def test_anomaly_detection() -> None:
    module, image = build(NETWORKS[3])
    with torch.autograd.set_detect_anomaly(True):
        WBP()(module, image, 1, create_graph=True).sum().backward()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.name}-{n.training}")
@pytest.mark.parametrize("use", ["record", "map", "map with a graph", "train"])
def test_memory_goes_with_the_recording(network: Small, use: str) -> None:
    """No reference cycle: what a step has kept is gone at once, not at the next collection."""
    module, image = build(network)
    gc.collect()
    gc.disable()
    try:
        recording = WBP().record(module, image)
        if use == "map":
            recording.saliency(1)
        elif use == "map with a graph":
            recording.saliency(1, create_graph=True).sum().backward()
        elif use == "train":
            recording.output.sum().backward()
        gone = [weakref.ref(recording.image), weakref.ref(recording.output)]
        del recording
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_hooks_of_the_user_still_run() -> None:
    module, image = build(NETWORKS[2])
    seen: list[str] = []
    handles = [
        module.first.register_forward_hook(lambda *_: seen.append("forward")),
        module.first.register_forward_pre_hook(lambda *_: seen.append("before")),
    ]
    WBP()(module, image, 1)
    assert seen == ["before", "forward"]
    for handle in handles:
        handle.remove()


def test_a_hook_may_change_the_output() -> None:
    torch.manual_seed(0)
    module = Mixed(1).double().eval()
    image = torch.randn(2, 1, 6).double()
    expected = WBP()(lambda x: module(x) * 3, image, 1)
    module.head.register_forward_hook(lambda _module, _inputs, output: output * 3)
    assert torch.allclose(WBP()(module, image, 1), expected)


def test_dynamic_networks() -> None:
    """What runs may depend on the image: the recording follows what ran."""
    first, second = nn.Linear(4, 2).double(), nn.Linear(4, 2).double()

    def network(x: Tensor) -> Tensor:
        chosen = first if float(x.detach().sum()) > 0 else second
        return chosen(x.flatten(1))

    image = torch.ones(1, 1, 4).double()
    assert torch.allclose(WBP()(network, image, 0).flatten(), first.weight[0])
    assert torch.allclose(WBP()(network, -image, 0).flatten(), -second.weight[0])
