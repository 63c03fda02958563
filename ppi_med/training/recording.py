"""An inferer that records the clean forward, so that loss and map share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ppi_med.errors import UsageError
from ppi_med.saliency import Recording, SaliencyMethod, norm_derivatives


class RecordingInferer:
    """Wrap a trainer's inferer; when armed, the next forward in training is recorded.

    Attributes:
        recording: the last recorded forward, until `release`.
        call: further arguments of the last forward, for passes of altered images.
        network: the one network that is recorded; None records any.

    Args:
        inner: the trainer's own inferer.
        method: the saliency method that records.
    """

    def __init__(self, inner: Callable[..., Any], method: SaliencyMethod) -> None:
        self.inner = inner
        self.method = method
        self.armed = False
        self.network: Callable[..., Any] | None = None
        self.recording: Recording | None = None
        self.call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Infer, and record if armed."""
        training = getattr(network, "training", False) and torch.is_grad_enabled()
        # A step may call the network inside a wrapper for parallel training.
        known = self.network is None or network in (self.network, _inside(self.network))
        if not (self.armed and training and known):
            with norm_derivatives():
                return self.inner(inputs, network, *args, **kwargs)
        self.armed = False
        self.call = (args, kwargs)
        through = _Through(self.inner, network)
        self.recording = self.method.record(through, inputs, *args, **kwargs)
        return self.recording.output

    def again(self, inputs: Tensor, network: Callable[..., Any]) -> Any:
        """Pass other images with the last call's further arguments, repeated to their number.

        Args:
            inputs: `(k N, C, *spatial)`: k altered versions of a batch of N.
            network: the network.
        """
        if self.recording is None:
            raise RuntimeError("no forward has been recorded: arm the inferer before the iteration")
        size = self.recording.image.shape[0]
        times = inputs.shape[0] // size
        args, kwargs = repeated(self.call, size, times)
        with norm_derivatives():
            return self.inner(inputs, network, *args, **kwargs)

    def release(self) -> None:
        """Release the recorded graph."""
        self.armed, self.recording, self.call = False, None, ((), {})


def check_loss(loss: Any, name: str, *, summed: bool = True) -> None:
    """Refuse a loss that is no tensor, or, where it is summed up, not one number.

    Raises:
        UsageError: saying what it is and what to do.
    """
    if isinstance(loss, Tensor) and (loss.numel() == 1 or not summed):
        return
    got = (
        f"a tensor of shape {tuple(loss.shape)}"
        if isinstance(loss, Tensor)
        else f"a {type(loss).__name__}"
    )
    raise UsageError(
        f"{name} finds a loss that is {got}, expected one number as a tensor: take the entry that "
        "is to be trained on, such as loss['loss'], or the mean over the batch."
    )


def _inside(network: Any) -> Any:
    return getattr(network, "module", network)


class _Through:
    """The network as seen through an inferer; saliency finds its module by `network`."""

    def __init__(self, inner: Callable[..., Any], network: Callable[..., Any]) -> None:
        self.inner = inner
        self.network = network

    def __call__(self, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.inner(image, self.network, *args, **kwargs)


def repeated(value: Any, size: int, times: int) -> Any:
    """Repeat every tensor with a batch axis of this size; return anything else as it is."""
    if isinstance(value, Tensor):
        per_sample = value.ndim > 0 and value.shape[0] == size
        return value.repeat(times, *([1] * (value.ndim - 1))) if per_sample else value
    if isinstance(value, dict):
        return {key: repeated(item, size, times) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [repeated(item, size, times) for item in value]
        # A named tuple takes its fields one by one.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
