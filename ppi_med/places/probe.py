"""The short training that shows a shortcut, and a network's answers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ppi_med.networks.small_cnn import SmallCNN
from ppi_med.pace import Pace
from ppi_med.places.judge import verdict
from ppi_med.places.stack import ImageStack, Partners, exchanged
from ppi_med.saliency.target import primary_logits
from ppi_med.training.modes import evaluating

Factory = Callable[[], nn.Module]
_WIDTHS = (8, 16, 32)


def small_probe(channels: int, classes: int) -> nn.Module:
    """Return the default network of a search: a small CNN."""
    outputs = 1 if classes == 2 else classes
    return SmallCNN(outputs, channels, widths=_WIDTHS, downsampling="stride")


def make_network(network: Factory | None, stack: ImageStack, seed: int) -> nn.Module:
    """Return a network for single images, with weights that depend on the seed alone.

    Of a network for volumes, its part for one slice (`slice_classifier()`) is taken.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if network is None:
            return small_probe(stack.image.shape[1], stack.classes).to(stack.image.device)
        made = network()
    slices = getattr(made, "slice_classifier", None)
    return made if slices is None else slices()


def short_training(
    network: nn.Module,
    stack: ImageStack,
    *,
    epochs: int,
    slices: int,
    batch_size: int,
    steps: tuple[int, int],
    lr: float,
    seed: int,
    place: Tensor | None = None,
    progress: Callable[[str], object] | None = None,
) -> None:
    """Train a network on single images, each with its volume's label.

    Args:
        network: its weights are changed; it is left in evaluation mode.
        stack: stack of the training part.
        epochs: passes over the units.
        slices: random images of a unit in an epoch.
        batch_size: images per step.
        steps: least and most steps, whatever the epochs come to.
        lr: learning rate of Adam.
        seed: seed of the order.
        place: bool `(H, W)`: by a coin for each image, this place's content is that of an image
            of another class.
        progress: called with a line every ten seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    partners = Partners(stack) if place is not None else None
    weight = _class_weights(stack).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    an_epoch = -(-len(stack.unit_label) * (slices if stack.volumes else 1) // batch_size)
    total = min(max(epochs * an_epoch, steps[0]), steps[1])
    network.train()
    pace = Pace(total, "short training, steps", progress)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        while pace.done < total:
            for index in _epoch(stack, slices, generator).split(batch_size):
                if len(index) < 2 or pace.done == total:
                    break
                x, label = stack.image[index], stack.label[index]
                if place is not None and partners is not None:
                    other = stack.image[partners.draw(index, generator)]
                    coin = torch.rand(len(index), generator=generator) < 0.5
                    x = exchanged(x, place & coin.view(-1, 1, 1, 1).to(place.device), other)
                optimizer.zero_grad()
                logits = primary_logits(network(x.to(device)))
                _loss(logits, label.to(device), weight).backward()
                optimizer.step()
                pace.step()
    network.eval()


def _epoch(stack: ImageStack, slices: int, generator: torch.Generator) -> Tensor:
    """Return the images of an epoch in random order: at most `slices` of each unit."""
    order = torch.randperm(len(stack.image), generator=generator)
    if not stack.volumes:
        return order
    unit = stack.unit_index[order]
    by_unit = torch.argsort(unit, stable=True)
    counts = torch.bincount(unit)
    rank = torch.arange(len(order)) - (torch.cumsum(counts, 0) - counts)[unit[by_unit]]
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[by_unit[rank < slices]] = True
    return order[kept]


def _class_weights(stack: ImageStack) -> Tensor:
    counts = torch.bincount(stack.label, minlength=stack.classes).double()
    present = counts > 0
    weight = torch.zeros_like(counts)
    weight[present] = len(stack.label) / (present.sum() * counts[present])
    return weight.float()


def _loss(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    if logits.ndim == 1 or logits.shape[1] == 1:
        each = binary_cross_entropy_with_logits(
            logits.flatten(), label.to(logits.dtype), reduction="none"
        )
    else:
        each = cross_entropy(logits, label, reduction="none")
    return (each * weight[label]).mean()


def scores_of(network: nn.Module, image: Tensor, batch_size: int = 256) -> Tensor:
    """Return one score per image: `(M, 1)` for two classes, else log-probabilities `(M, K)`."""
    device = next(network.parameters()).device
    found = []
    with evaluating(network), torch.no_grad():
        for part in image.split(batch_size):
            logits = primary_logits(network(part.to(device))).float()
            found.append(logits.reshape(len(part), -1).cpu())
    logits = torch.cat(found)
    if logits.shape[1] == 1:
        return logits
    if logits.shape[1] == 2:
        return logits[:, 1:] - logits[:, :1]
    return logits.log_softmax(1)


def exchange_effect(
    network: nn.Module, validation: ImageStack, place: Tensor, *, seed: int = 0
) -> dict[str, float]:
    """Return the effect of exchanging the place's content on the AUC of the units.

    Args:
        network: `(N, C, H, W)` to logits, such as `Search.network`.
        validation: images that did not train it.
        place: bool `(H, W)`.
        seed: seed of the partners.

    Returns:
        `clean`: as they are; `other`: with the content of an image of another class, at the
        same position; `same`: of the same class, which shows what a seam does by itself.
    """
    place = torch.as_tensor(place, dtype=torch.bool)
    index = torch.arange(len(validation.image))
    found = {"clean": verdict(validation, scores_of(network, validation.image)).auc}
    for name, same in (("other", False), ("same", True)):
        generator = torch.Generator().manual_seed(seed)
        partner = Partners(validation, same).draw(index, generator)
        image = exchanged(validation.image, place, validation.image[partner])
        found[name] = verdict(validation, scores_of(network, image)).auc
    return found
