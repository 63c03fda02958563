"""Finding and removing the layer that turns a classifier's features into logits."""

from __future__ import annotations

from torch import nn


def find_head(network: nn.Module, num_classes: int) -> str:
    """Return the name of the layer that makes the logits: the last linear layer.

    A network without linear layers, such as SqueezeNet, makes them by its last convolution.

    Args:
        network: a classifier.
        num_classes: the number of its logits.

    Raises:
        ValueError: where that layer gives another number of outputs.
    """
    name, module = _last(network, nn.Linear) or _last(network, nn.Conv2d) or ("", network)
    outputs = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    if outputs != num_classes:
        raise ValueError(
            f"{type(network).__name__} has no last layer with {num_classes} outputs (found "
            f"{name or 'none'} with {outputs}): it cannot be used by name, build it yourself."
        )
    return name


def remove_head(network: nn.Module, name: str) -> int:
    """Replace the layer ``name`` by the identity and return the number of its inputs."""
    head = network.get_submodule(name)
    inputs = head.in_features if isinstance(head, nn.Linear) else head.in_channels
    parent_name, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent_name), child, nn.Identity())
    if not isinstance(inputs, int):
        raise TypeError(f"The layer {name} is {type(head).__name__}, expected linear or conv.")
    return inputs


def _last(network: nn.Module, kind: type[nn.Module]) -> tuple[str, nn.Module] | None:
    found = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    return found[-1] if found else None
