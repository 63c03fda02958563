"""Keep the output of one layer of a network during an ordinary forward."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from ppi_med.saliency.base import Network
from ppi_med.saliency.engine.isolation import as_written, module_of, modules_by_name
from ppi_med.saliency.engine.operations import changes_first_operand, operation_name

CONVOLUTIONS = frozenset(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3))


class LayerOutput:
    """A layer's output: its value, and the edge of the graph at which its gradient is read.

    A later operation in place changes the tensor but neither of the two.
    """

    def __init__(self, output: Tensor) -> None:
        self.edge: GradientEdge = get_gradient_edge(output)
        self._output: Tensor = output
        self._is_live = True

    def value(self) -> Tensor:
        """Return the output as the layer gave it."""
        return self._output

    def save_from(self, changed: Any) -> None:
        """Keep a copy if `changed`, which is about to change, is the output or a part of it."""
        if not self._is_live or not isinstance(changed, Tensor):
            return
        if changed is self._output or (changed._is_view() and changed._base is self._output):
            self._output = self._output.clone()
            self._is_live = False


class Watch(TorchFunctionMode):
    """Keeps a layer's output while a network runs under it.

    Args:
        layer: name of the layer, for messages; None: the last convolution.
        every_run: keep each run of the layer, not only the last.
    """

    def __init__(self, layer: str | None, every_run: bool) -> None:
        super().__init__()
        self.layer = layer
        self.every_run = every_run
        self._kept: dict[int, list[LayerOutput]] = {}
        self._last: int | None = None

    def keep(self, key: int, output: Tensor) -> None:
        """Keep an output of the layer with this `key`."""
        if not self.every_run:
            self._kept.clear()
        self._kept.setdefault(key, []).append(LayerOutput(output))
        self._last = key

    def outputs(self) -> list[LayerOutput]:
        """Return what was kept.

        Raises:
            ValueError: if nothing was kept.
        """
        if self._last is not None:
            return self._kept[self._last]
        if self.layer is None:
            raise ValueError(
                "the network ran no convolution that depends on the image and leaves an extent "
                "in space: name a layer whose output is (N, C, *spatial)"
            )
        raise ValueError(f"the layer '{self.layer}' did not run on the image: name another")

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("input")
        if self._kept and changes_first_operand(func, args, kwargs):
            for outputs in self._kept.values():
                for kept in outputs:
                    kept.save_from(first)
        output = func(*args, **kwargs)
        if self.layer is None and operation_name(func) in CONVOLUTIONS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            if output.requires_grad and max(output.shape[2:], default=0) > 1:
                self.keep(id(weight), output)
        return output


@contextmanager
def watching(network: Network, layer: str | None, *, every_run: bool = False) -> Iterator[Watch]:
    """Keep the output of a layer of `network` while it runs inside the context.

    The last convolution is found among the running operations. A named layer gets a forward hook,
    which is removed after the block, also on error.

    Raises:
        ValueError: if the network has no such layer.
        TypeError: if the layer's output is not a tensor.
    """
    watch = Watch(layer, every_run)
    if layer is None:
        with as_written(), watch:
            yield watch
        return

    def hook(module: Any, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the layer '{layer}' returned a {type(output).__name__}, expected one tensor "
                "(N, C, *spatial): name a layer inside it"
            )
        if output.requires_grad:
            watch.keep(0, output)

    handle = _named(network, layer).register_forward_hook(hook)
    try:
        # A hook added after compilation is not called.
        with as_written(), watch:
            yield watch
    finally:
        handle.remove()


def _named(network: Network, layer: str) -> Any:
    if module_of(network) is None:
        raise ValueError(
            f"layer '{layer}' is asked of a function, which has no layers by name: give the module"
        )
    found = modules_by_name(network)
    if layer in found:
        return found[layer]
    near = difflib.get_close_matches(layer, found, n=3) or [name for name in found if name][:5]
    raise ValueError(f"the network has no layer '{layer}'; near names: {', '.join(near)}")
