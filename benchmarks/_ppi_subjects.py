"""What `ppi_step.py` measures: networks with a batch, and trainers that do one kind of step."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _naive_ppi import NaivePPI  # noqa: E402
from _timing import Work  # noqa: E402

from ppi_med.handlers.methods import training_method  # noqa: E402
from ppi_med.handlers.ppi import PPIHandler  # noqa: E402
from ppi_med.intervention import PPITerms  # noqa: E402
from ppi_med.intervention.pairing import draw_partners  # noqa: E402
from ppi_med.intervention.randomness import RandomState  # noqa: E402
from ppi_med.networks import MultiViewClassifier, create_classifier  # noqa: E402

SEED = 0


@dataclass(frozen=True)
class Subject:
    """A network and its batch.

    Attributes:
        make: builds the network.
        image: shape of one image.
        batch: images a batch.
        shared_place: PPI as the GA bundle trains (shared place, exchange, smoothed maps), not as
            printed.
    """

    make: Callable[[], nn.Module]
    image: tuple[int, ...]
    batch: int = 16
    shared_place: bool = False


def _classifier(name: str) -> Callable[[], nn.Module]:
    return lambda: create_classifier(name, num_classes=2, in_channels=3)


def _volumes(**options: Any) -> Callable[[], nn.Module]:
    return lambda: MultiViewClassifier(
        "small_cnn", backbone_options={"downsampling": "stride"}, **options
    )


SUBJECTS = {
    "resnet18": Subject(_classifier("resnet18"), (3, 128, 128)),
    "inception_v3": Subject(_classifier("inception_v3"), (3, 139, 139)),
    "multiview": Subject(_volumes(), (1, 10, 64, 80)),
    "multiview, shared place": Subject(_volumes(), (1, 10, 64, 80), shared_place=True),
}

# name -> options of the handler, options of the terms, steps of one cycle of the schedule
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "differentiable": ({}, {}, 1),
    "stop-gradient": ({"differentiable": False}, {}, 1),
    "one contrast": ({"differentiable": False}, {"alternate": True}, 1),
    "one contrast, differentiable": ({}, {"alternate": True}, 1),
    "every 2nd": ({"every": 2}, {}, 2),
    "every 2nd, stop-gradient": ({"differentiable": False, "every": 2}, {}, 2),
    "every 4th": ({"every": 4}, {}, 4),
}
# Of which schedule each is the naive form.
NAIVE = {
    "naive": ("differentiable", NaivePPI(alone="everything")),
    "naive, stop-gradient": (
        "stop-gradient",
        NaivePPI(differentiable=False, alone="everything"),
    ),
    "naive, only maps one by one": ("differentiable", NaivePPI(alone="map")),
}


@dataclass(frozen=True)
class Setting:
    """A network with its data and loss, from which trainers are made.

    Attributes:
        network: in training mode; each trainer works on a copy.
        image: `(N, C, *spatial)`.
        label: `(N,)` for two logits, `(N, 1)` for one.
        shared_place: see `Subject`.
    """

    network: nn.Module
    image: Tensor
    label: Tensor
    shared_place: bool = False

    @classmethod
    def of(cls, subject: Subject, *, batch: int | None = None, side: int | None = None) -> Setting:
        """Build the network and draw its batch.

        Args:
            subject: what is measured.
            batch: instead of the subject's.
            side: side of square images instead of the subject's.
        """
        torch.manual_seed(SEED)
        network = subject.make()
        shape = subject.image if side is None else (*subject.image[:-2], side, side)
        size = batch or subject.batch
        image = torch.randn(size, *shape)
        label = torch.arange(size) % 2
        if isinstance(network, MultiViewClassifier):
            label = label[:, None].float()
        return cls(network.train(), image, label, subject.shared_place)

    def in_double(self, *, batch: int, fixed_statistics: bool) -> Setting:
        """Return a small setting for comparisons: float64, no dropout, few images.

        Args:
            batch: images.
            fixed_statistics: BatchNorm uses running statistics, so that samples don't interact.
        """
        network = copy.deepcopy(self.network).double()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if fixed_statistics:
            _take_statistics(network, self.image[:batch].double())
            network = FixedStatistics(network)
        return replace(
            self,
            network=network.train(),
            image=self.image[:batch].double(),
            label=self.label[:batch].to(torch.float64 if self.single else torch.int64),
        )

    @property
    def single(self) -> bool:
        """Whether the network has a single logit."""
        return self.label.is_floating_point()

    @property
    def cls_loss(self) -> nn.Module:
        """L_cls of this kind of label."""
        return nn.BCEWithLogitsLoss() if self.single else nn.CrossEntropyLoss()

    def handler(self, schedule: str) -> PPIHandler:
        """Return the handler of a schedule."""
        of_handler, of_terms, _ = SCHEDULES[schedule]
        if not self.shared_place:
            return PPIHandler(terms=PPITerms(seed=SEED, **of_terms), **of_handler)
        made = training_method("ppi_wbp_shared", seed=SEED, slice_axis=2, **of_handler)
        assert isinstance(made, PPIHandler)
        made.terms.alternate = bool(of_terms.get("alternate"))
        return made

    def trainer(self, handlers: Sequence[Any], *, steps: int = 1, lr: float = 1e-3) -> Any:
        """Return a stock trainer that does some steps a run, on a copy of the network."""
        network = copy.deepcopy(self.network)
        return SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=[{"image": self.image, "label": self.label}] * steps,
            network=network,
            optimizer=torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9),
            loss_function=self.cls_loss,
            train_handlers=list(handlers),
            decollate=False,
        )

    def work(self, kind: str) -> Work:
        """Return one cycle of steps: `plain`, a schedule, or a naive form."""
        if kind in NAIVE:
            return self._naive_step(NAIVE[kind][1])
        if kind == "plain":
            return self.trainer([]).run  # type: ignore[no-any-return]
        return self.trainer([self.handler(kind)], steps=SCHEDULES[kind][2]).run  # type: ignore[no-any-return]

    def _naive_step(self, naive: NaivePPI) -> Work:
        network = copy.deepcopy(self.network)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad()
            self.naive_loss(naive, network).backward()
            optimizer.step()

        return step

    def naive_loss(self, naive: NaivePPI, network: nn.Module) -> Tensor:
        """Return the loss of a naive step whose partners are those that the terms draw first."""
        partner = draw_partners("any", len(self.image), RandomState(SEED).generator)
        return naive.loss(network, self.cls_loss, self.image, self.label, partner)


class FixedStatistics(nn.Module):
    """A network whose BatchNorm stays in evaluation mode whatever a trainer sets."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> FixedStatistics:
        """Set the mode of everything but BatchNorm."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, image: Tensor) -> Any:
        """Pass on."""
        return self.network(image)


def _take_statistics(network: nn.Module, image: Tensor) -> None:
    """Set BatchNorm's running statistics to those of a batch.

    With the ones and zeros that a deep network starts from, its logits overflow in evaluation.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(image)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
