"""Small trainers and a hand-written PPI loop, shared by the tests of the handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from ppi_med.intervention import PPITerms
from ppi_med.saliency import WBP, SaliencyMethod
from ppi_med.training.modes import running_statistics_kept


def network(seed: int = 0, classes: int = 2, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A CNN with the parts that matter here: BatchNorm, SiLU, in-place ReLU, pooling."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )
    return layers.to(dtype)


def batches(
    count: int, size: int = 6, classes: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1
) -> list[dict[str, Tensor]]:
    """Batches of noise with a bright square whose place tells the class."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        label = torch.randint(0, classes, (size,), generator=generator)
        image = torch.randn(size, 1, 16, 16, generator=generator, dtype=dtype)
        for i, c in enumerate(label.tolist()):
            image[i, :, 2 + 4 * c : 6 + 4 * c, 2:6] += 2
        made.append({"image": image, "label": label})
    return made


def trainer(
    net: nn.Module, data: Sequence[dict[str, Tensor]], handlers: Sequence[Any] = (), **kwargs: Any
) -> SupervisedTrainer:
    """A stock trainer on ready batches."""
    options: dict[str, Any] = {
        "device": torch.device("cpu"),
        "max_epochs": 1,
        "train_data_loader": data,
        "network": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.05),
        "loss_function": nn.CrossEntropyLoss(),
        "train_handlers": list(handlers),
        "decollate": False,
        **kwargs,
    }
    return SupervisedTrainer(**options)


def hand_written_loop(
    net: nn.Module,
    data: Sequence[dict[str, Tensor]],
    terms: PPITerms,
    lr: float = 0.05,
    method: SaliencyMethod | None = None,
) -> None:
    """PPI without handler, trainer or recording: separate forwards, gradient steps by hand.

    The map is taken in a forward of its own, with BatchNorm's buffers kept, so nothing is shared
    with the pass that L_cls uses.
    """
    net.train()
    method, cross_entropy = method or WBP(), nn.CrossEntropyLoss()
    for iteration, batch in enumerate(data, start=1):
        image, label = batch["image"], batch["label"]
        cls_loss = cross_entropy(net(image), label)
        saliency = method(net, image, label, create_graph=terms.needs_map_gradient)
        contrasts = terms.contrast_images(image, saliency, label, num_logits=2)
        with running_statistics_kept(net):
            outputs = net(contrasts.batch)
        result = terms.losses(contrasts, outputs, cls_loss, epoch=1, iteration=iteration)
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(cls_loss + result.total, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient
