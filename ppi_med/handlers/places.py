"""Training at a frozen place: a search first, then each image with a copy exchanged there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys
from torch import Tensor, distributed, nn

from ppi_med.data.datalist import patient_of
from ppi_med.errors import UsageError
from ppi_med.intervention.pairing import draw_partners
from ppi_med.intervention.randomness import process_rank
from ppi_med.naming import LOSS_AD, LOSS_CLS
from ppi_med.places import (
    Account,
    ImageStack,
    Neutral,
    Search,
    SearchSettings,
    accepted_place,
    exchanged,
    search,
)
from ppi_med.places.exchange import (
    SUFFIX,
    Bank,
    Blank,
    EvenOutside,
    ExchangePlaced,
    PlaceBank,
    StyleBank,
    quantiles,
    restyled,
    spectrum,
)
from ppi_med.places.search import NEUTRAL, PLACE, STYLE
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.rng import derive_seeds, give_state, take_state
from ppi_med.training.state import handlers_of, unwrapped

FILE_NAME = "places.npz"
_SLICES = 24
_SIDE = 224
# Memory for the images of a part: 500 volumes of 24 B-scans of 224 x 400 pixels, and so on.
_MOST_BYTES = 2**32
_LEAST_CASES = 200
_CHOICES = {
    "kind": ("place", "style", "neutral", "auto"),
    "fill": ("exchange", "blind"),
    "step": ("beside", "coin"),
}
PLACE_METHODS: Mapping[str, Mapping[str, str]] = {
    "ppi_wbp_place": {},
    "ppi_wbp_place_coin": {"step": "coin"},
    "ppi_wbp_place_blind": {"fill": "blind"},
    "ppi_wbp_style": {"kind": "style"},
    "neutral": {"kind": "neutral"},
    "auto": {"kind": "auto"},
    "clarc": {"fill": "project"},
}
"""Training methods of this handler by name, with what they set."""
_SOUGHT = {"place": "place", "neutral": "texture or moving mark that can be removed"}

logger = logging.getLogger(__name__)


@dataclass
class PlaceData:
    """What a search reads, and where it writes: a bundle states it once.

    Attributes:
        training: cases of the training part as the network sees them, not augmented.
        validation: those of the validation part.
        bank: cases of the training part as `exchange` sees them; None: as `training`.
        exchange: the training's exchange transform; None: content is exchanged in the batch.
        directory: for `places.npz`; None: nothing is written.
        tracker: gets the result.
        unlabelled: images without labels, for `d_bat`, see `ppi_med.baselines.d_bat.DBat`.
    """

    training: Iterable[Mapping[str, Any]] | None = None
    validation: Iterable[Mapping[str, Any]] | None = None
    bank: Iterable[Mapping[str, Any]] | None = None
    exchange: ExchangePlaced | None = None
    directory: str | os.PathLike[str] | None = None
    tracker: Tracker | None = None
    unlabelled: Any = None

    @classmethod
    def of(cls, data: PlaceData | Mapping[str, Any] | None) -> PlaceData:
        """Return the data, given as such, by name or not at all."""
        return data if isinstance(data, cls) else cls(**(data or {}))  # type: ignore[arg-type]


class PlaceHandler:
    """Find the place of a shortcut before the first step, then train without it.

    x' is x with the place's content from a random training image of another class, at the same
    B-scan; the label stays:

        L = L(x, y) + L(x', y)

    Where a search finds that a mark also moves the grey levels of its volume, all images are seen
    with brightness and contrast outside the place made alike.

    Args:
        kind: `"place"`: train at the place that is given or found; `"style"`: exchange the
            style in place of a content; `"neutral"`: take a device's texture out of all images,
            in training and afterwards; `"auto"`: what the search recommends.
        fill: `"exchange"`, or `"blind"`: the place is at 0 in all images, in training and
            afterwards.
        step: `"beside"`: x and x' in each step, two forwards; `"coin"`: one of them.
        place: bool `(H, W)`, or a path, see `read_place`; None: search first.
        even: with a `place`: make the images' brightness and contrast outside of it alike, in
            training and afterwards. A search decides that itself.
        data: what the search reads; None: the batches of the trainer and of its validator.
        settings: settings of the search, by name; see `ppi_med.places.SearchSettings`.
        seed: seed of the search, of partners and coins.

    Attributes:
        found: the search; None before, or where a place is given.
        mask: bool `(H, W)` of the place; None where there is none.
        neutral: what changes all images, in training and afterwards; None where nothing does.

    Examples:
        >>> PlaceHandler("auto").state_dict()
        {}
    """

    choices: Mapping[str, tuple[str, ...]] = _CHOICES

    def __init__(
        self,
        kind: str = "place",
        *,
        fill: str = "exchange",
        step: str = "beside",
        place: str | os.PathLike[str] | Tensor | None = None,
        even: bool = False,
        data: PlaceData | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("kind", kind), ("fill", fill), ("step", step)):
            if value not in self.choices[name]:
                raise ValueError(f"{name} is {value!r}, expected one of {self.choices[name]}.")
        self.kind, self.fill, self.step, self.seed = kind, fill, step, seed
        if even and place is None:
            raise ValueError("even is True without a place: a search decides that itself.")
        self.place, self.even = None if place is None else read_place(place), even
        self.data = PlaceData.of(data)
        self.settings = SearchSettings(**(settings or {}))
        self.found: Search | None = None
        self.mask: Tensor | None = None
        self.neutral: Neutral | None = None
        self.active: str | None = None
        self._engine: Engine | None = None
        self._hooks: list[Any] = []
        self._inferer: _Remembering | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            TypeError: the engine is no `SupervisedTrainer`.
            RuntimeError: this handler is attached already.
        """
        if not isinstance(engine, SupervisedTrainer):
            raise TypeError(
                f"PlaceHandler attaches to a monai SupervisedTrainer, got {type(engine).__name__}"
            )
        if self._engine is not None:
            raise RuntimeError("A PlaceHandler is attached once: make another for this trainer.")
        self._engine = engine
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._add_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: all is made again from data, seed and `places.npz`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""

    # Before the first step

    def _start(self, engine: Engine) -> None:
        before = take_state()
        if self.data.tracker is not None:
            self.data.tracker.start()  # so that a failed or killed search is recorded too
        try:
            self._decide(engine)
            self._arm(engine)
        finally:
            give_state(before)
        self._record()

    def _decide(self, engine: Engine) -> None:
        """Set the training: `active` is one of the kinds except `"auto"`, or None."""
        if self.kind == "style":
            self.active = "style"
            return
        if self.place is not None:
            self.mask, self.active = self.place, "place"
            if self.even:
                even = self._even_outside(engine, self.place) if process_rank() == 0 else None
                self.neutral = Neutral(even=_of_first_process(even))
            return
        found = self._found(engine) if process_rank() == 0 else None
        self.mask, self.neutral, self.active, line = _of_first_process(
            None if found is None else _decision(found, self.kind)
        )
        self.found = found
        logger.info("%s", line)

    def _even_outside(self, engine: Engine, place: Tensor) -> EvenOutside:
        return EvenOutside.like(place, (case_image(one) for one in self._training(engine)))

    def _found(self, engine: Engine) -> Search:
        training, held_out = self._parts(engine)
        train, validation = _stack(training, self.seed), _stack(held_out, self.seed)
        path = None if self.data.directory is None else Path(self.data.directory) / FILE_NAME
        found = search(
            train.stack,
            validation.stack,
            self.settings,
            seed=self.seed,
            progress=lambda line: logger.info("search for shortcuts, %s", line),
            path=path,
        )
        if train.factor > 1:
            found = _enlarged(found, train.size)
            if path is not None:
                found.save(path)
        return found

    def _arm(self, engine: Engine) -> None:
        self._tell_checkpoints(engine)
        self._change_images(engine)
        blind = self.active == "place" and self.fill == "blind"
        if blind or self.active in (None, "neutral"):
            return
        if self.data.exchange is not None:
            self.data.exchange.bank = self._bank(engine)
        if self._inferer is None:
            inner = engine.inferer  # type: ignore[attr-defined]
            self._inferer = _Remembering(inner, self._coin if self.step == "coin" else None)
            engine.inferer = self._inferer  # type: ignore[attr-defined]

    def _change_images(self, engine: Engine) -> None:
        """Let the network see all images through what was found to change them."""
        seen: list[Any] = [] if self.neutral is None else [self.neutral.hook]
        if self.active == "place" and self.fill == "blind":
            assert self.mask is not None
            seen.append(Blank(self.mask))
        for hook in self._hooks:
            hook.remove()
        network = unwrapped(engine.network)  # type: ignore[attr-defined]
        self._hooks = [network.register_forward_pre_hook(one) for one in seen]

    def _bank(self, engine: Engine) -> Bank:
        data = self.data
        cases = data.bank if data.bank is not None else self._training(engine)
        images = ((case_image(case), case_label(case)) for case in cases)
        if self.active == "style":
            return StyleBank(images)
        assert self.mask is not None
        return PlaceBank(self.mask, images)

    def _training(self, engine: Engine) -> Iterable[Mapping[str, Any]]:
        given = self.data.training
        return _cases_of(engine, engine.state.dataloader) if given is None else given

    def _parts(self, engine: Engine) -> tuple[Iterable[Any], Iterable[Any]]:
        """Return cases of the training and of the validation part."""
        training = self._training(engine)
        if self.data.validation is not None:
            return training, self.data.validation
        held = [getattr(handler, "validator", None) for handler in handlers_of(engine)]
        for one in held:
            if isinstance(one, Engine):
                return training, _cases_of(one, one.data_loader)  # type: ignore[attr-defined]
        logger.warning("There are no validation images: the search holds back each fourth patient.")
        cases = list(training)
        patient = _numbers([patient_of(case) for case in cases])
        kept: list[Any] = [case for case, k in zip(cases, patient, strict=True) if k % 4 != 3]
        return kept, [case for case, k in zip(cases, patient, strict=True) if k % 4 == 3]

    def _tell_checkpoints(self, engine: Engine) -> None:
        """Write what was found into the file beside the weights, for inference and its report."""
        facts = self.account().facts()
        for handler in handlers_of(engine):
            for one in handlers_of(handler.validator) if hasattr(handler, "validator") else ():
                if isinstance(getattr(one, "facts", None), dict):
                    one.facts["place"] = facts

    def account(self) -> Account:
        """Return what was found and done."""
        found: dict[str, Any] = {}
        if self.found is not None:
            found = {
                "reason": self.found.reason,
                "kind": self.found.kind,
                "j_net": self.found.j_net,
                "j": tuple(one.j for one in self.found.places if one.accepted),
                "caution": self.found.caution,
            }
        return Account(
            **found,
            method=self.active,
            fill=self.fill,
            step=self.step,
            mask=self.mask,
            neutral=self.neutral,
        )

    def _record(self) -> None:
        """Record the first stage in the run of the second: each round, its result, a sentence.

        A resumed run records it again; the tracker keeps it once.
        """
        tracker = self.data.tracker or NullTracker()
        account = self.account()
        tracker.set_tags({"audit/method": self.active or "plain", "audit/reason": account.sentence})
        if self.found is None:
            return
        for one in self.found.history:
            values = {f"audit/rounds/{k}": v for k, v in one.items() if k != "round"}
            tracker.log_metrics(values, step=int(one["round"]))
        found = {"audit/j_net": self.found.j_net, "audit/places": len(account.j)}
        tracker.log_metrics({**found, "audit/share": float(self.found.place.mean())}, step=0)
        tracker.set_tags({**found, "audit/j_net": f"{self.found.j_net:.3f}"})
        if self.data.directory is not None:
            tracker.log_artifact(Path(self.data.directory) / FILE_NAME)

    # In each step

    def _generator(self, engine: Engine) -> torch.Generator:
        """Return draws that depend on the step only: a resumed run has the same ones."""
        (seed,) = derive_seeds(1, self.seed, engine.state.iteration, 2 + process_rank())
        return torch.Generator().manual_seed(seed)

    def _coin(self, image: Tensor) -> Tensor | None:
        """Return x' if the coin says so; None: x."""
        engine = self._engine
        assert engine is not None
        # All processes toss the same coin: their passes must match.
        (seed,) = derive_seeds(1, self.seed, engine.state.iteration, 1)
        if torch.rand((), generator=torch.Generator().manual_seed(seed)) < 0.5:
            return None
        return self._altered(engine, image)

    def _add_loss(self, engine: Engine) -> None:
        if self._inferer is None or self.step == "coin":
            return
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        network: nn.Module = engine.network  # type: ignore[attr-defined]
        args, kwargs = self._inferer.call
        altered = self._altered(engine, output[CommonKeys.IMAGE])
        with running_statistics_kept(network):
            prediction = self._inferer.inner(altered, network, *args, **kwargs)
        loss = engine.loss_function(prediction, output[CommonKeys.LABEL]).mean()  # type: ignore[attr-defined]
        clean = output[CommonKeys.LOSS]
        output |= {CommonKeys.LOSS: clean + loss, LOSS_CLS: clean.detach(), LOSS_AD: loss.detach()}
        self._inferer.call = ((), {})

    def _altered(self, engine: Engine, image: Tensor) -> Tensor:
        """Return x' of a batch: from the loader, or exchanged within the batch."""
        batch = engine.state.batch
        key = f"{CommonKeys.IMAGE}{SUFFIX}"
        if isinstance(batch, Mapping) and key in batch:
            made: Tensor = batch[key].to(image.device)
            return made.as_subclass(Tensor)
        plain = image.as_subclass(Tensor)
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        label = output[CommonKeys.LABEL]
        one_hot = label.ndim == 2 and label.shape[1] > 1
        classes = (label.argmax(1) if one_hot else label.flatten()).long().to(plain.device)
        partner = draw_partners("other_class", len(plain), self._generator(engine), classes)
        if self.active == "style":
            styles = [(spectrum(one), quantiles(one)) for one in plain.cpu()]
            pairs = zip(plain.cpu(), partner.tolist(), strict=True)
            return torch.stack([restyled(x, *styles[j]) for x, j in pairs]).to(plain.device)
        assert self.mask is not None
        return exchanged(plain, self.mask, plain[partner])


class _Remembering(Inferer):
    """The trainer's inferer, which keeps a call's further arguments; x' where the coin gives it."""

    def __init__(
        self, inner: Callable[..., Any], coin: Callable[[Tensor], Tensor | None] | None
    ) -> None:
        super().__init__()
        self.inner = inner
        self.coin = coin
        self.call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Infer."""
        self.call = (args, kwargs)
        altered = None if self.coin is None else self.coin(inputs)
        if altered is None:
            return self.inner(inputs, network, *args, **kwargs)
        kept = running_statistics_kept(network) if isinstance(network, nn.Module) else nullcontext()
        with kept:
            return self.inner(altered, network, *args, **kwargs)


def read_place(place: str | os.PathLike[str] | Tensor | Any) -> Tensor:
    """Return a place as bool `(H, W)`.

    Args:
        place: an array; or the path of a `.npy`, of a `.npz` with `place` (as a search
            writes it), or of a `decision.yaml` (as `ppi-med audit` writes it).

    Raises:
        UsageError: if the file is missing or holds no place, or the place is empty.
    """
    if isinstance(place, (str, os.PathLike)) and Path(place).suffix in (".yaml", ".yml"):
        values, name = accepted_place(place), str(place)
    elif isinstance(place, (str, os.PathLike)):
        path = Path(place)
        try:
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
                values = np.asarray(loaded if isinstance(loaded, np.ndarray) else loaded["place"])
        except FileNotFoundError as error:
            raise UsageError(f"No place {path}: run ppi-med audit first, or leave it out.") from (
                error
            )
        except Exception as error:  # a damaged file can raise anything in the reader
            raise UsageError(
                f"{path} holds no place ({error}): give a .npy, or a .npz with 'place'."
            ) from error
        name = str(path)
    else:
        values, name = np.asarray(place), "place"
    if values.ndim != 2 or not values.any():
        raise UsageError(
            f"{name} has shape {values.shape} with {int((values != 0).sum())} pixels set, expected "
            "(H, W) with some: there is nothing to exchange."
        )
    return torch.from_numpy(values != 0)


@dataclass(frozen=True)
class _Stacked:
    stack: ImageStack
    factor: int
    size: tuple[int, int]


def _stack(cases: Iterable[Mapping[str, Any]], seed: int) -> _Stacked:
    """Put cases into a stack, as many as fit; those of a stream, which has no length, are all."""
    images: list[Tensor] = []
    labels: list[int] = []
    units: list[int] = []
    positions: list[int] = []
    factor, size = 1, (0, 0)
    names: list[str] = []
    for number, case in enumerate(_drawn(cases, seed)):
        names.append(patient_of(case))
        image, factor, size = _planes(case_image(case).float())
        images.append(image)
        labels += [case_label(case)] * len(image)
        units += [number] * len(image)
        positions += range(len(image))
    shapes = {tuple(image.shape[1:]) for image in images}
    if len(shapes) != 1:
        raise UsageError(
            f"the images have the shapes {sorted(shapes)[:4]}, expected one (C, H, W): bring them "
            "to one size (image_size) before a search for places."
        )
    unit = torch.tensor(units)
    patient = torch.tensor(_numbers(names))[unit]
    stack = ImageStack(
        torch.cat(images), torch.tensor(labels), unit, torch.tensor(positions), patient
    )
    return _Stacked(stack, factor, size)


def _planes(image: Tensor) -> tuple[Tensor, int, tuple[int, int]]:
    """Return 24 B-scans of a volume at most, 224 pixels a side at most; the factor; the size."""
    size = (int(image.shape[-2]), int(image.shape[-1]))
    factor = -(-min(size) // _SIDE)
    if image.ndim == 4:
        count = image.shape[1]
        index = torch.linspace(0, count - 1, min(count, _SLICES)).round().long()
        image = image[:, index].transpose(0, 1)
    else:
        image = image[None]
    if factor > 1:
        image = torch.nn.functional.avg_pool2d(image, factor, ceil_mode=True)
    return image, factor, size


def _drawn(cases: Any, seed: int) -> Iterable[Mapping[str, Any]]:
    """Return all cases, or as many as the search's memory holds, at random and in order."""
    if not isinstance(cases, Sized) or len(cases) == 0:
        return cases  # type: ignore[no-any-return]
    first = _planes(case_image(cases[0]).float())[0]  # type: ignore[index]
    most = max(_LEAST_CASES, _MOST_BYTES // (4 * first.numel()))
    if len(cases) <= most:
        return cases  # type: ignore[return-value]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(cases), generator=generator)[:most].sort().values
    logger.info("The search reads %d of %d cases, drawn at random.", most, len(cases))
    return (cases[k] for k in chosen.tolist())  # type: ignore[index]


def _numbers(names: Sequence[str]) -> list[int]:
    """Return an index for each case's patient, in order; a case without a name is one alone."""
    index: dict[str | int, int] = {}
    return [index.setdefault(name or k, len(index)) for k, name in enumerate(names)]


def _enlarged(found: Search, size: tuple[int, int]) -> Search:
    """Bring what a search found on smaller images back to the images' own size."""
    factor = size[0] / found.facts["shape"][0]

    def larger(mask: Any) -> Tensor:
        values = torch.as_tensor(mask)[None, None].float()
        return torch.nn.functional.interpolate(values, size, mode="nearest")[0, 0] > 0.5

    def changed(neutral: Neutral | None) -> Neutral | None:
        if neutral is None:
            return None
        even = neutral.even and replace(neutral.even, place=larger(neutral.even.place))
        marks = tuple(mark.enlarged(factor) for mark in neutral.marks)
        return replace(neutral, sigma=neutral.sigma * factor, marks=marks, even=even)

    return replace(
        found,
        places=tuple(replace(one, mask=larger(one.mask).numpy()) for one in found.places),
        texture=replace(found.texture, neutral=changed(found.texture.neutral)),
        neutral=changed(found.neutral),
        marks=tuple(mark.enlarged(factor) for mark in found.marks),
        facts={**found.facts, "shape": list(size)},
    )


def case_image(case: Mapping[str, Any]) -> Tensor:
    """Return a case's image, a plain tensor."""
    return torch.as_tensor(case[CommonKeys.IMAGE]).as_subclass(Tensor)


def case_label(case: Mapping[str, Any]) -> int:
    """Return a case's class."""
    label = torch.as_tensor(case[CommonKeys.LABEL]).flatten()
    return int(label[0] if len(label) == 1 else label.argmax())


def _cases_of(engine: Engine, loader: Any) -> Iterator[dict[str, Any]]:
    """Yield the cases of a loader's batches, as its engine prepares them."""
    for data in loader:
        batch = engine.prepare_batch(data, torch.device("cpu"), False)  # type: ignore[attr-defined]
        for image, label in zip(batch[0], batch[1], strict=True):
            yield {CommonKeys.IMAGE: image, CommonKeys.LABEL: label}


def _decision(found: Search, kind: str) -> tuple[Tensor | None, Neutral | None, str | None, str]:
    """Return the place, the neutral transform, the training, and a sentence."""
    active = {PLACE: "place", STYLE: "style", NEUTRAL: "neutral"}.get(found.recommended_method)
    line = found.reason
    if kind not in ("auto", active):
        active = None
        line = f"No {_SOUGHT[kind]} was found, so the training is plain. {line}"
    mask = torch.from_numpy(found.place) if active == "place" else None
    neutral = found.neutral if active in ("place", "neutral") else None
    return mask, neutral, active, line


def _of_first_process(decision: Any) -> Any:
    """Return what the first process decided."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return decision
    held = [decision]
    distributed.broadcast_object_list(held, src=0)
    return held[0]
