"""Parameter groups: which part of a network learns at which rate."""

from __future__ import annotations

from typing import Any

from torch import nn


def ga_parameter_groups(
    network: nn.Module, cnn_lr: float = 5e-5, rest_lr: float = 5e-3, **options: Any
) -> list[dict[str, Any]]:
    """Return the two groups of Appendix E.3: the CNN, then everything else.

    Parameters that are frozen (`requires_grad=False`) are in neither. A group that would be
    empty is left out, so that a frozen CNN gives one group.

    Args:
        network: one with its CNN as `backbone`, such as `MultiViewClassifier`; it may be wrapped
            for parallel training.
        cnn_lr: learning rate of the CNN.
        rest_lr: learning rate of the embedding, the heads and delta.
        options: further settings of both groups, such as `weight_decay`.

    Returns:
        Groups for an optimiser, each with `params`, `lr` and `name` ("cnn", "rest").

    Raises:
        ValueError: where the network has no `backbone`, or nothing to train.

    Examples:
        >>> from ppi_med.networks import MultiViewClassifier
        >>> groups = ga_parameter_groups(MultiViewClassifier())
        >>> [(group["name"], group["lr"]) for group in groups]
        [('cnn', 5e-05), ('rest', 0.005)]
    """
    if isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        network = network.module
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f"{type(network).__name__} has no module 'backbone', expected a network whose CNN is "
            "found there: make the groups yourself, or give the optimiser network.parameters()."
        )
    in_cnn = {id(parameter) for parameter in backbone.parameters()}
    trained = [p for p in network.parameters() if p.requires_grad]
    parts = (
        ("cnn", cnn_lr, [p for p in trained if id(p) in in_cnn]),
        ("rest", rest_lr, [p for p in trained if id(p) not in in_cnn]),
    )
    if not trained:
        raise ValueError(
            f"{type(network).__name__} has no parameter with requires_grad: unfreeze some."
        )
    return [
        {"name": name, "params": params, "lr": lr, **options}
        for name, lr, params in parts
        if params
    ]
