"""The search for a shortcut: train shortly, look, judge, exchange the place, repeat."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppi_med.errors import UsageError
from ppi_med.io import atomic_path
from ppi_med.places.ask import difference_map, top_place
from ppi_med.places.judge import Verdict, interval, judge_place, verdict
from ppi_med.places.marks import MovingMark, find_mark
from ppi_med.places.probe import (
    Factory,
    exchange_effect,
    make_network,
    scores_of,
    short_training,
    small_probe,
)
from ppi_med.places.stack import ImageStack, Partners, exchanged
from ppi_med.places.texture import Neutral, Texture, texture

FORMAT, _WITHOUT_MARKS = 3, 2
Kind = Literal["none", "place", "style", "texture", "mark"]
PLAIN, PLACE, STYLE, NEUTRAL = "plain", "ppi_wbp_place", "ppi_wbp_style", "neutral"
_METHODS: dict[Kind, str] = {
    "none": PLAIN,
    "place": PLACE,
    "style": STYLE,
    "texture": NEUTRAL,
    "mark": NEUTRAL,
}
_FEW_UNITS = 20


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search; the defaults were chosen on phantoms.

    Attributes:
        epochs: epochs of a short training.
        slices: B-scans of a volume in an epoch.
        batch_size: images per step.
        steps: least and most steps of a short training.
        lr: learning rate of Adam.
        share: share of the image that the top of the map has at most.
        relative: part of the map's maximum that a pixel of the top reaches.
        grow: pixels that a place grows to each side, of an image 64 pixels high.
        every: every k-th B-scan gets a map.
        threshold: threshold of J, from which a place is an artefact.
        threshold_net: threshold of J_net, from which there is a shortcut.
        rounds: largest number of places.
        max_share: largest share of the image that all places have at most.
        repeats: draws of the interval of J_net.
    """

    epochs: int = 5
    slices: int = 8
    batch_size: int = 64
    steps: tuple[int, int] = (100, 1000)
    lr: float = 3e-3
    share: float = 0.03
    relative: float = 0.15
    grow: float = 2.0
    every: int = 3
    threshold: float = 0.25
    threshold_net: float = 0.3
    rounds: int = 3
    max_share: float = 0.2
    repeats: int = 500


@dataclass(frozen=True, eq=False)
class Place:
    """A part of the image that a short training looked at.

    Attributes:
        mask: bool `(H, W)`.
        j: max(0, 2 AUC - 1) ICC of its content.
        share: share of the image.
        accepted: whether it is an artefact.
        round: its round, from 1.
        auc: AUC of its content, by a linear discriminant.
        icc: how alike its content is within a volume; in 2-D its constancy within a class.
    """

    mask: NDArray[np.bool_]
    j: float
    share: float
    accepted: bool
    round: int
    auc: float
    icc: float


@dataclass(frozen=True, eq=False)
class Search:
    """What was found.

    Attributes:
        shortcut: whether there is one.
        j_net: J of the short network's answers; in 2-D, where it has no ICC, the part of its AUC
            that depends on the first place, times that place's constancy.
        j_net_interval: 95 %, over units.
        places: in the order in which they were found, accepted or not.
        kind: `"place"`: it has places; `"texture"`: the fine detail of the whole image predicts the
            class; `"mark"`: the same pixels lie somewhere in each 2-D image of a class; `"style"`:
            another shortcut without a place; `"none"`.
        recommended_method: the recommended training method.
        reason: in one sentence.
        auc: AUC of the short network, over the validation's units.
        history: history of each round: `round`, `auc`, `j_net`, `j`, `share` of the place.
        network: the short, plain training's network; None if loaded without a factory.
        rounds: number of short trainings.
        texture: how well the fine detail of each cell predicts the class.
        marks: the marks that move, 2-D only; sought where there is no place and no such texture.
    """

    shortcut: bool
    j_net: float
    j_net_interval: tuple[float, float]
    places: tuple[Place, ...]
    kind: Kind
    recommended_method: str
    reason: str
    auc: float
    history: tuple[dict[str, float], ...]
    network: nn.Module | None
    rounds: int
    texture: Texture
    marks: tuple[MovingMark, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> NDArray[np.bool_]:
        """The union of the accepted places, bool `(H, W)`; empty without one."""
        shape = tuple(self.facts["shape"])
        found = np.zeros(shape, dtype=bool)
        for one in self.places:
            if one.accepted:
                found |= one.mask
        return found

    @property
    def neutral(self) -> Neutral | None:
        """What removes a texture or marks that move from all images; None where nothing does."""
        return Neutral(marks=self.marks) if self.marks else self.texture.neutral

    @property
    def caution(self) -> str:
        """A sentence where the validation part is too small to be sure, else ""."""
        return _caution(self.facts.get("units", _FEW_UNITS)).strip()

    def summary(self) -> dict[str, Any]:
        """Return all but masks and network as JSON values."""
        places = [{k: v for k, v in vars(p).items() if k != "mask"} for p in self.places]
        return {
            "shortcut": self.shortcut,
            "kind": self.kind,
            "j_net": self.j_net,
            "j_net_interval": list(self.j_net_interval),
            "auc": self.auc,
            "recommended_method": self.recommended_method,
            "reason": self.reason,
            "rounds": self.rounds,
            "history": list(self.history),
            "places": places,
            "texture": {"median": self.texture.median, "left": self.texture.left},
            "neutral": None if self.texture.neutral is None else self.texture.neutral.facts(),
            "marks": [
                {k: v for k, v in mark.facts().items() if k not in ("template", "mask")}
                for mark in self.marks
            ],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` that needs no pickle, atomically."""
        masks = [p.mask for p in self.places]
        content = {**self.summary(), "marks": [mark.facts() for mark in self.marks]}
        arrays: dict[str, Any] = {
            "masks": np.stack(masks) if masks else np.zeros((0, *self.facts["shape"]), bool),
            "place": self.place,
            "cells": self.texture.cells,
            "search": np.array(json.dumps({"format": FORMAT, **content, "facts": self.facts})),
        }
        if self.network is not None:
            state = self.network.state_dict()
            arrays |= {f"network/{k}": v.detach().cpu().numpy() for k, v in state.items()}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: Factory | None = None) -> Search:
        """Read what `save` wrote.

        Args:
            path: the file.
            network: what was given to `search`; needed for `Search.network` then.

        Raises:
            UsageError: if the file is missing or is not a search.
        """
        path = Path(path)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = json.loads(str(arrays["search"]))
            if found.pop("format") not in (_WITHOUT_MARKS, FORMAT):
                raise ValueError("of another version")
        except FileNotFoundError as error:
            raise UsageError(f"No places {path}: run the search first.") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"{path} holds no places of this version ({error}): remove it to search again."
            ) from error
        places = tuple(
            Place(mask=mask.astype(bool), **facts)
            for mask, facts in zip(arrays["masks"], found.pop("places"), strict=True)
        )
        neutral, left = found.pop("neutral"), found.pop("texture")["left"]
        cells = Texture(arrays["cells"], left, None if neutral is None else Neutral.of(neutral))
        found["history"] = tuple(found["history"])
        found["j_net_interval"] = tuple(found["j_net_interval"])
        found["marks"] = tuple(MovingMark.of(mark) for mark in found.get("marks", ()))
        restored = _restored(arrays, found["facts"], network)
        return cls(places=places, network=restored, texture=cells, **found)


def search(
    train: ImageStack,
    validation: ImageStack,
    settings: SearchSettings | None = None,
    *,
    network: Factory | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Search:
    """Search a data set for a shortcut.

    A network is trained shortly and plainly: it has learned only what is easiest.
    WBP says where it looks; whether that is an artefact is judged from its content. Then another
    short training with that place exchanged, until a place is not an artefact.

    Global random states are restored, and the answer depends only on data, settings and seed.

    Args:
        train: the training part.
        validation: the validation part.
        settings: default `SearchSettings()`.
        network: makes a network for single images, or one with `slice_classifier()`; None: a
            small CNN.
        seed: seed of weights and orders.
        progress: called with a line after each round.
        path: file that is written after each round. Where it holds rounds of the same data,
            settings and seed, the search continues after them.

    Raises:
        UsageError: if the parts differ in image shape or the validation has one class.

    Examples:
        >>> label = torch.arange(80) % 2
        >>> image = torch.rand(80, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> image[label == 1, :, 2:5, 2:5] = 3.0
        >>> index = torch.arange(80)
        >>> stack = ImageStack(image, label, index, torch.zeros_like(index))
        >>> found = search(stack.chosen(index < 50), stack.chosen(index >= 50))
        >>> found.kind, bool(found.place[3, 3])
        ('place', True)
    """
    rounds = _Rounds(train, validation, settings or SearchSettings(), network, seed)
    return rounds.run(progress, None if path is None else Path(path))


class _Rounds:
    def __init__(
        self,
        train: ImageStack,
        validation: ImageStack,
        settings: SearchSettings,
        network: Factory | None,
        seed: int,
    ) -> None:
        if train.image.shape[1:] != validation.image.shape[1:]:
            raise UsageError(
                f"training images are {tuple(train.image.shape[1:])}, those of validation "
                f"{tuple(validation.image.shape[1:])}, expected one shape (C, H, W)."
            )
        self.train, self.validation, self.settings = train, validation, settings
        self.factory, self.seed = network, seed
        self.found = torch.zeros(train.image.shape[2:], dtype=torch.bool)
        self.places: list[Place] = []
        self.history: list[dict[str, float]] = []
        self.first: nn.Module | None = None
        self.bounds = (0.0, 0.0)
        self.marks: list[MovingMark] = []

    def run(self, progress: Callable[[str], None] | None, path: Path | None) -> Search:
        name = _fingerprint(self.train, self.validation, self.settings, self.seed)
        earlier = _earlier(path, name, self.factory)
        if earlier is not None and earlier.facts["complete"]:
            return earlier
        if earlier is not None:
            self._take_up(earlier)
        else:
            self.texture = texture(self.train, seed=self.seed)
        for number in range(len(self.places) + 1, self.settings.rounds + 2):
            network = self._trained(number, progress)
            scores = scores_of(network, self._without_places())
            answer = verdict(self.validation, scores)
            place = self._ask(network, number)
            found, bounds_now = self._network_verdict(network, scores, answer, place)
            if found.j < self.settings.threshold_net or self._texture_first():
                # What the network uses is not what whole volumes share, or it is everywhere.
                place = replace(place, accepted=False)
            if self.first is None:
                self.first, self.bounds = network, bounds_now
            self.history.append(
                {
                    "round": number,
                    "auc": answer.auc,
                    "j_net": found.j,
                    "j": place.j,
                    "share": place.share,
                }
            )
            self.places.append(place)
            if progress is not None:
                progress(
                    f"round {number}: J_net {found.j:.2f}, place of {place.share:.1%}, "
                    f"J {place.j:.2f}"
                )
            if not place.accepted:
                break
            self.found |= torch.from_numpy(place.mask)
            if path is not None:
                self._concluded(name, complete=False).save(path)
        if not (self.train.volumes or self.texture.shortcut or bool(self.found.any())):
            self._find_marks(progress)
        found_all = self._concluded(name, complete=True)
        if path is not None:
            found_all.save(path)
        return found_all

    def _find_marks(self, progress: Callable[[str], None] | None) -> None:
        """Find marks that move, each with a network that was trained without those before."""
        train, validation, network = self.train, self.validation, self.first
        for number in range(1, self.settings.rounds + 1):
            assert network is not None
            mark = find_mark(network, train, validation, seed=self.seed)
            if progress is not None:
                said = "no more" if self.marks else "none"
                progress(f"marks that move: {said if mark is None else f'J {mark.j:.2f}'}")
            if mark is None:
                return
            self.marks.append(mark)
            if number < self.settings.rounds:
                train, validation = mark.taken_from(train), mark.taken_from(validation)
                network = self._trained(number, progress, train)

    def _take_up(self, earlier: Search) -> None:
        """Continue after the rounds of a stopped search."""
        self.places, self.history = list(earlier.places), list(earlier.history)
        self.first, self.bounds = earlier.network, earlier.j_net_interval
        self.found, self.texture = torch.from_numpy(earlier.place), earlier.texture

    def _without_places(self) -> Tensor:
        """Return the validation images, each place found so far with either class's content."""
        if not bool(self.found.any()):
            return self.validation.image
        generator = torch.Generator().manual_seed(self.seed)
        index = torch.arange(len(self.validation.image))
        # One coin per unit: with a coin per image the mean would mix both contents.
        coin = torch.rand(len(self.validation.unit_label), generator=generator) < 0.5
        partner = torch.where(
            coin[self.validation.unit_index],
            Partners(self.validation).draw(index, generator),
            Partners(self.validation, same=True).draw(index, generator),
        )
        return exchanged(self.validation.image, self.found, self.validation.image[partner])

    def _trained(
        self,
        number: int,
        progress: Callable[[str], object] | None,
        train: ImageStack | None = None,
    ) -> nn.Module:
        s = self.settings
        network = make_network(self.factory, self.train, self.seed + number - 1)
        short_training(
            network,
            self.train if train is None else train,
            epochs=s.epochs,
            slices=s.slices,
            batch_size=s.batch_size,
            steps=s.steps,
            lr=s.lr,
            seed=self.seed + number - 1,
            place=self.found if bool(self.found.any()) else None,
            progress=progress,
        )
        return network

    def _ask(self, network: nn.Module, number: int) -> Place:
        s = self.settings
        difference = difference_map(network, self.train, every=s.every)
        mask = top_place(
            difference, share=s.share, relative=s.relative, grow=s.grow, without=self.found
        )
        whole = float((mask | self.found).double().mean())
        judged = judge_place(self.train, self.validation, mask) if bool(mask.any()) else None
        judged = judged or Verdict(0.5, 0.0)
        fits = whole <= s.max_share and number <= s.rounds
        return Place(
            mask=mask.numpy(),
            j=judged.j,
            share=float(mask.double().mean()),
            accepted=judged.j >= s.threshold and fits,
            round=number,
            auc=judged.auc,
            icc=judged.icc,
        )

    def _network_verdict(
        self, network: nn.Module, scores: Tensor, answer: Verdict, place: Place
    ) -> tuple[Verdict, tuple[float, float]]:
        """Return J_net with its interval."""
        if self.train.volumes:
            bounds = interval(self.validation, scores, repeats=self.settings.repeats)
            return answer, bounds
        effect = exchange_effect(network, self.validation, torch.from_numpy(place.mask))
        lost = min(1.0, max(0.0, effect["same"] - effect["other"]))
        low, high = interval(self.validation, scores, repeats=self.settings.repeats)
        factor = lost * place.icc / max(answer.j, 1e-9) if answer.j > 0 else 0.0
        # With one image per unit the interval is that of 2 AUC - 1, brought to the same scale.
        bounds = min(1.0, low * factor), min(1.0, high * factor)
        return Verdict(0.5 + lost / 2, place.icc), bounds

    def _texture_first(self) -> bool:
        """Say whether no place is accepted, because the whole image predicts the class.

        A bright mark moves the grey levels of its whole volume: the place of volumes goes first.
        In 2-D a device's texture can pass for the constant content of a place.
        """
        return self.texture.shortcut and not self.train.volumes

    def _texture_is_stronger(self) -> bool:
        """Say whether the texture predicts the class much better than any place.

        Another grey curve is everywhere, and so in each place that the search takes. The texture's
        2 AUC - 1 is compared with J; what makes an artefact of a place is the least difference.
        """
        best = max((place.j for place in self.places if place.accepted), default=0.0)
        lead = 2 * self.texture.median - 1 - best
        return self.texture.neutral is not None and lead >= self.settings.threshold

    def _concluded(self, name: str, complete: bool) -> Search:
        j_net = self.history[0]["j_net"]
        shortcut = j_net >= self.settings.threshold_net
        places = self.places
        if self._texture_is_stronger():
            places = [replace(place, accepted=False) for place in places]
        kind: Kind = "none"
        if any(p.accepted for p in places):
            kind = "place"
        elif self.texture.shortcut:
            kind = "texture"
        elif self.marks:
            kind = "mark"
        elif not shortcut:
            pass
        else:
            kind = "style" if self.train.volumes else "none"
        shortcut = kind != "none"
        method = _METHODS[kind]
        if kind == "texture" and self.texture.neutral is None:
            method = STYLE if self.train.volumes else PLAIN
        return Search(
            shortcut=shortcut,
            j_net=j_net,
            j_net_interval=self.bounds,
            places=tuple(places),
            kind=kind,
            recommended_method=method,
            reason=self._reason(kind, j_net, places),
            auc=self.history[0]["auc"],
            history=tuple(self.history),
            network=self.first,
            rounds=len(self.history),
            texture=self.texture,
            marks=tuple(self.marks),
            facts={
                "shape": list(self.found.shape),
                "channels": self.train.image.shape[1],
                "classes": self.train.classes,
                "own_network": self.factory is not None,
                "units": len(self.validation.unit_label),
                "seed": self.seed,
                "settings": asdict(self.settings),
                "fingerprint": name,
                "complete": complete,
            },
        )

    def _reason(self, kind: Kind, j_net: float, places: list[Place]) -> str:
        caution = _caution(len(self.validation.unit_label))
        if kind == "none":
            return (
                f"No shortcut was found (J_net {j_net:.2f}, from "
                f"{self.settings.threshold_net:.2f} on there is one): train plainly.{caution}"
            )
        if kind == "texture":
            return self._texture_reason() + caution
        if kind == "mark":
            return self._mark_reason() + caution
        if kind == "style":
            return (
                f"The short training decides by something that whole volumes share (J_net "
                f"{j_net:.2f}) and that has no place: exchange the style.{caution}"
            )
        accepted = [p for p in places if p.accepted]
        share = sum(p.share for p in accepted)
        count = "one place" if len(accepted) == 1 else f"{len(accepted)} places"
        return (
            f"A shortcut was found (J_net {j_net:.2f}) at {count} with {share:.1%} of the image "
            f"(J {accepted[0].j:.2f}): exchange its content.{caution}"
        )

    def _mark_reason(self) -> str:
        values = ", ".join(f"J {mark.j:.2f}" for mark in self.marks)
        label = self.marks[0].label
        return (
            f"The same few pixels lie somewhere in the images of class {label} ({values}), as a "
            "letter or an electrode does: train on images in which they are filled."
        )

    def _texture_reason(self) -> str:
        found = (
            "The fine detail of the whole image tells the class (median AUC of its cells "
            f"{self.texture.median:.2f}), as a device's sharpness, noise or grey curve does"
        )
        neutral = self.texture.neutral
        if neutral is not None:
            after = self.texture.left[neutral.name]
            return f"{found}; with images {neutral.name} it is {after:.2f}: train on these."
        least = min(self.texture.left.values())
        if self.train.volumes:
            return f"{found}, and nothing silences it ({least:.2f} at best): exchange the style."
        return (
            f"{found}, and nothing silences it ({least:.2f} at best): no training removes it, "
            "collect images in which device and class are not the same."
        )


def _caution(units: int) -> str:
    if units >= _FEW_UNITS:
        return ""
    return f" The validation part has {units} units only, which is too few to be sure."


def _fingerprint(
    train: ImageStack, validation: ImageStack, settings: SearchSettings, seed: int
) -> str:
    """Return the identity of a search, so that a file of another one is not used for it."""
    digest = hashlib.sha256(json.dumps([FORMAT, seed, asdict(settings)]).encode())
    for stack in (train, validation):
        parts = (stack.image, stack.label, stack.unit, stack.position, stack.patient)
        for part in (one for one in parts if one is not None):
            digest.update(str((part.dtype, tuple(part.shape))).encode())
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _earlier(path: Path | None, name: str, factory: Factory | None) -> Search | None:
    """Return what an earlier call wrote of the same search, if it did."""
    if path is None or not path.is_file():
        return None
    try:
        found = Search.load(path, factory)
    except UsageError:
        return None
    return found if found.facts.get("fingerprint") == name else None


def _restored(
    arrays: dict[str, NDArray[Any]], facts: dict[str, Any], factory: Factory | None
) -> nn.Module | None:
    prefix = "network/"
    state = {k[len(prefix) :]: torch.from_numpy(v) for k, v in arrays.items() if prefix in k}
    if not state or (facts["own_network"] and factory is None):
        return None
    with torch.random.fork_rng():
        made = small_probe(facts["channels"], facts["classes"]) if factory is None else factory()
    made = getattr(made, "slice_classifier", lambda: made)()
    made.load_state_dict(state)
    return made.eval()
