"""The call forms of other packages: our maps where their code expects their own.

These packages are not imported. Each adapter takes the network and a method or its name (see
`ppi_med.saliency.by_name`), and leaves no trace in the network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from ppi_med.saliency.base import Network, Recording, SaliencyMethod
from ppi_med.saliency.engine.isolation import isolated
from ppi_med.saliency.lrp.composite import LRPRecording
from ppi_med.saliency.names import by_name
from ppi_med.saliency.target import Target, primary_logits

Method = str | SaliencyMethod
Start = Tensor | Callable[[Tensor], Tensor]


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Captum's NoiseTunnel calls the function inside the decorator of its own attributions."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class CaptumAttribution:
    """`attribute(inputs, target, additional_forward_args)`, as in Captum's attributions.

    It works wherever Captum takes an attribution, such as in `captum.attr.NoiseTunnel`.

    Args:
        forward_func: the network.
        method: the method, or its name (default `"wbp"`).

    Examples:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> CaptumAttribution(network).attribute(torch.ones(2, 1, 2, 2), target=[2, 0]).shape
        torch.Size([2, 1, 2, 2])
    """

    multiplies_by_inputs = True

    def __init__(self, forward_func: Network, method: Method = "wbp") -> None:
        self.forward_func = forward_func
        self.method = _method(method)

    def has_convergence_delta(self) -> bool:
        """Return False: see `ppi_med.saliency.wbp_completeness` instead."""
        return False

    @_wrapped
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        create_graph: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the map of `target`.

        Args:
            inputs: the images `(N, C, *spatial)`, or a tuple of this one tensor.
            target: a class; a list or tensor of one class per sample; a tuple of output indices
                after the sample's, or a list of such; None if the output is one score per sample.
            additional_forward_args: further inputs of the network after the images: a value or a
                tuple.
            create_graph: record the map itself, so that a loss on it trains the network.

        Raises:
            ValueError: for several inputs, or a target that does not fit.
        """
        alone = isinstance(inputs, Tensor)
        images = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        if len(images) != 1:
            raise ValueError(
                f"got {len(images)} inputs, expected one tensor of images: give what else the "
                "network takes as additional_forward_args"
            )
        further = additional_forward_args
        args = further if isinstance(further, tuple) else () if further is None else (further,)
        with isolated(self.forward_func, images[0].device):
            recording = self.method.record(self.forward_func, images[0], *args)
            found = recording.saliency(
                _captum_target(target), create_graph=create_graph, retain_graph=create_graph
            )
        return found if alone else (found,)


def _captum_target(target: Any) -> Target:
    if target is None:
        return lambda output: primary_logits(output).flatten()
    if isinstance(target, tuple):
        return lambda output: output[(slice(None), *target)]
    if isinstance(target, list) and target and isinstance(target[0], tuple):
        return lambda output: torch.stack(
            [row[index] for row, index in zip(output, target, strict=True)]
        )
    if isinstance(target, list):
        return torch.tensor(target)
    if isinstance(target, Tensor) and target.ndim == 1 and len(target) == 1:
        return int(target)
    found: Target = target
    return found


def quantus_explain_func(method: Method = "wbp") -> Callable[..., Any]:
    """Return an `explain_func(model, inputs, targets, **kwargs)` for Quantus' metrics.

    It takes and returns NumPy arrays `(N, C, *spatial)`.

    Args:
        method: the method, or its name (default `"wbp"`).

    Examples:
        >>> import numpy as np
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> explain = quantus_explain_func("gradient")
        >>> explain(network, np.ones((2, 1, 2, 2), "float32"), np.array([2, 0])).shape
        (2, 1, 2, 2)
    """
    chosen = _method(method)

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> Any:
        like = next((p for p in model.parameters()), torch.zeros(()))
        image = torch.as_tensor(inputs).to(like.device, like.dtype)
        target = torch.as_tensor(targets).to(like.device).long().reshape(-1)
        return chosen(model, image, target).cpu().numpy()

    return explain


class ZennitAttributor:
    """`output, relevance = attributor(input, attr_output)`, as in Zennit's attributors.

    The relevance starts from `attr_output`, for example a one at a class: LRP passes on that value
    and not the score, as Zennit does. No canonizer is needed.

    Args:
        model: the network.
        method: the method, or its name (default `"lrp_epsilon"`).
        attr_output: the start, of the output's shape, or a function of the output (default: the
            output itself).

    Examples:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> with ZennitAttributor(network, "gradient") as attributor:
        ...     output, relevance = attributor(torch.ones(2, 1, 2, 2), torch.eye(3)[[2, 0]])
        >>> output.shape, relevance.shape
        (torch.Size([2, 3]), torch.Size([2, 1, 2, 2]))
    """

    def __init__(
        self, model: Network, method: Method = "lrp_epsilon", attr_output: Start | None = None
    ) -> None:
        self.model = model
        self.method = _method(method)
        self.attr_output = attr_output

    def __enter__(self) -> ZennitAttributor:
        """Return the attributor: there is nothing to register."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: nothing was registered."""

    def __call__(
        self, input: Tensor, attr_output: Start | None = None, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the output and the map.

        Args:
            input: `(N, C, *spatial)`.
            attr_output: the start for this call instead of the attributor's.
            create_graph: record the map itself, so that a loss on it trains the network.
        """
        start = self.attr_output if attr_output is None else attr_output
        with isolated(self.model, input.device):
            recording = self.method.record(self.model, input)
            output = primary_logits(recording.output)
            given = start(output) if callable(start) else output if start is None else start
            given = given.detach().to(output)
            options = {"create_graph": create_graph, "retain_graph": create_graph}
            if isinstance(recording, LRPRecording):
                found = recording.relevance(output, given, **options)
            else:
                found = recording.saliency(
                    lambda out: (primary_logits(out) * given).flatten(1).sum(1), **options
                )
        return (output if create_graph else output.detach()), found


class MonaiVisualizer:
    """`visualizer(x, class_idx)`, as in the classes of `monai.visualize`.

    Args:
        nn_module: the network.
        method: the method, or its name (default `"wbp"`).

    Examples:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> MonaiVisualizer(network)(torch.ones(2, 1, 2, 2)).shape
        torch.Size([2, 1, 2, 2])
    """

    def __init__(self, nn_module: Network, method: Method = "wbp") -> None:
        self.nn_module = nn_module
        self.method = _method(method)

    def __call__(
        self,
        x: Tensor,
        class_idx: int | Tensor | None = None,
        layer_idx: int = -1,
        retain_graph: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Return the map, of the shape of `x`, in evaluation mode like MONAI's classes.

        Args:
            x: `(N, C, *spatial)`.
            class_idx: the class, or one per sample (default: the largest logit of each sample; of a
                single logit class 1 if it is above 0). `index` is another name for it.
            layer_idx: accepted and ignored: a method names its own layer.
            retain_graph: accepted and ignored.
            kwargs: further arguments of the network.
        """
        class_idx = kwargs.pop("index", class_idx)
        with isolated(self.nn_module, x.device):
            if isinstance(self.nn_module, nn.Module):
                self.nn_module.eval()
            recording = self.method.record(self.nn_module, x, **kwargs)
            target = _largest(recording.output) if class_idx is None else class_idx
            return recording.saliency(target, retain_graph=False)


class CAMExtractor:
    """`with CAMExtractor(network) as extract:`, as with torch-cam's extractors.

    Inside the block the network's forward is recorded; `extract(class, scores)` then reads the map
    from it. After the block the network has its own forward again.

    Args:
        model: the network, a module.
        method: the method, or its name (default `"gradcam"`).

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3))
        >>> with CAMExtractor(network) as extract:
        ...     scores = network(torch.rand(2, 1, 5, 5))
        ...     (cam,) = extract([2, 0], scores)
        >>> cam.shape
        torch.Size([2, 1, 5, 5])
    """

    def __init__(self, model: nn.Module, method: Method = "gradcam") -> None:
        self.model = model
        self.method = _method(method)
        self._recording: Recording | None = None

    def __enter__(self) -> CAMExtractor:
        """Record the network's forward passes from here on."""
        own = self.model.forward

        def recorded(image: Tensor, *args: Any, **kwargs: Any) -> Any:
            self._recording = self.method.record(own, image, *args, **kwargs)
            return self._recording.output

        self._before = self.model.__dict__.get("forward")
        self.model.forward = recorded
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the network's own forward."""
        del self.model.forward
        if self._before is not None:
            self.model.forward = self._before
        self._recording = None

    def __call__(
        self,
        class_idx: int | Sequence[int] | None = None,
        scores: Tensor | None = None,
        *,
        create_graph: bool = False,
    ) -> list[Tensor]:
        """Return the map of the last forward pass, of the image's shape, as a list of one.

        Args:
            class_idx: a class, or one per sample (default: the largest logit of each sample).
            scores: the network's output; accepted for torch-cam's call form and ignored.
            create_graph: record the map itself, so that a loss on it trains the network.

        Raises:
            RuntimeError: if no forward was recorded.
        """
        if self._recording is None:
            raise RuntimeError("no forward was recorded: run the network inside the `with` block")
        if class_idx is None:
            target: Target = _largest(self._recording.output)
        else:
            target = class_idx if isinstance(class_idx, int) else torch.tensor(list(class_idx))
        return [self._recording.saliency(target, create_graph=create_graph)]


def _method(method: Method) -> SaliencyMethod:
    return by_name(method) if isinstance(method, str) else method


def _largest(output: Any) -> Tensor:
    logits = primary_logits(output).detach()
    if logits.ndim == 1 or logits.shape[1] == 1:
        return (logits.flatten() > 0).long()
    return logits.argmax(1)
