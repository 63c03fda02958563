"""The search for a shortcut: train shortly, look, judge, exchange the place, repeat."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
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
from ppi_med.places.exchange import EvenOutside
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

FORMAT, _EARLIER = 5, (2, 3, 4)
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
# How much lower J_net is after a change of the images that is worth keeping.
_LESS = 0.1


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
        threshold_rest: threshold of J from which a further place of volumes is the rest of a mark,
            though the short network does without it; a longer training would not.
        rounds: largest number of places.
        max_share: largest share of the image that all places of volumes have at most.
        max_share_2d: the same in 2-D, where a frame can be wide.
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
    threshold_rest: float = 0.5
    rounds: int = 3
    max_share: float = 0.2
    max_share_2d: float = 0.4
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
        history: history of each short training that counted: `round`, `auc`, `j_net`, `j`, `share`
            of the place.
        network: the short, plain training's network; None if loaded without a factory.
        rounds: number of short trainings.
        texture: how well the fine detail of each cell predicts the class.
        marks: the marks that move; sought where nothing else explains the short network's answers.
        neutral: what is done to all images, in training and afterwards, beside an exchange of the
            places or in its stead: marks are filled, brightness outside of places and the texture
            are made alike. None: nothing.
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
    neutral: Neutral | None = None
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
    def left(self) -> float:
        """J_net after all that was found is taken away; of volumes, where it was measured."""
        return self.history[-1]["j_net"]

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
            "texture": {
                "median": self.texture.median,
                "left": self.texture.left,
                "neutral": _facts(self.texture.neutral),
            },
            "neutral": _facts(self.neutral),
            "marks": [mark.summary() for mark in self.marks],
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
            if found.pop("format") not in (*_EARLIER, FORMAT):
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
        marks = tuple(MovingMark.of(mark) for mark in found.pop("marks", ()))
        own, neutral = found.pop("texture"), _read(found.pop("neutral"))
        if "neutral" in own:
            cells = Texture(arrays["cells"], own["left"], _read(own["neutral"]))
        else:  # an earlier format, which held the texture's only
            cells = Texture(arrays["cells"], own["left"], neutral)
            neutral = Neutral(marks=marks) if marks else neutral
            neutral = neutral if found["recommended_method"] == NEUTRAL else None
        found["history"] = tuple(found["history"])
        found["j_net_interval"] = tuple(found["j_net_interval"])
        found |= {"marks": marks, "neutral": neutral}
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


@dataclass(frozen=True, eq=False)
class _Round:
    """A short training, and what it showed."""

    network: nn.Module
    auc: float
    net: Verdict
    bounds: tuple[float, float]
    place: Place


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
        self.settings, self.factory, self.seed = settings, network, seed
        self.as_given = self.train, self.validation = train, validation
        self.neutral: Neutral | None = None
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
            one = self._counted(self._round(number, progress), progress)
            if self.train.volumes:
                one = self._changed(one, number, progress)
            self.places.append(one.place)
            if not one.place.accepted:
                break
            self.found |= torch.from_numpy(one.place.mask)
            if self.neutral is not None and self.neutral.even is not None:
                # Brightness is measured outside all places so far.
                self._see(replace(self.neutral, even=self._even()))
            if path is not None:
                self._concluded(name, complete=False).save(path)
        if not (self.train.volumes or self.texture.shortcut or bool(self.found.any())):
            self._find_marks(progress)
        found_all = self._concluded(name, complete=True)
        if path is not None:
            found_all.save(path)
        return found_all

    def _round(self, number: int, progress: Callable[[str], None] | None) -> _Round:
        """Train shortly on the images as they are seen now, and ask where the network looks."""
        network = self._trained(number, progress)
        scores = scores_of(network, self._without_places())
        answer = verdict(self.validation, scores)
        place = self._ask(network, number)
        net, bounds = self._network_verdict(network, scores, answer, place)
        rest = self.train.volumes and number > 1 and place.j >= self.settings.threshold_rest
        if (net.j < self.settings.threshold_net and not rest) or self._texture_first():
            # What the network uses is not what whole volumes share, or it is everywhere.
            place = replace(place, accepted=False)
        return _Round(network, answer.auc, net, bounds, place)

    def _counted(self, one: _Round, progress: Callable[[str], None] | None) -> _Round:
        """Write a round into the history; the first is what is said of the data."""
        if self.first is None:
            self.first, self.bounds = one.network, one.bounds
        values = {"auc": one.auc, "j_net": one.net.j, "j": one.place.j, "share": one.place.share}
        self.history.append({"round": len(self.history) + 1, **values})
        if progress is not None:
            seen = "" if self.neutral is None else f", {self.neutral.name}"
            progress(
                f"round {len(self.history)}{seen}: J_net {one.net.j:.2f}, place of "
                f"{one.place.share:.1%}, J {one.place.j:.2f}"
            )
        return one

    def _changed(self, one: _Round, number: int, progress: Callable[[str], None] | None) -> _Round:
        """Return the same round on changed images, where a change takes away what is left.

        A place's content is not all that a mark leaves: it moves the grey levels of its volume.
        And a texture can lie beside a mark, or hide its place. While there is a place to exchange,
        a texture that is not all waits.
        """
        least = self.settings.threshold_net
        before = self.neutral
        for change in self._changes():
            if one.net.j < least:
                break
            self._see(change)
            other = self._round(number, progress)
            helps = other.net.j <= one.net.j - _LESS
            shows = other.place.accepted and not one.place.accepted
            waits = change.of_texture and one.place.accepted and other.net.j >= least
            if (helps or shows) and not waits:
                one, before = self._counted(other, progress), change
            else:
                self._see(before)
        return one

    def _changes(self) -> Iterator[Neutral]:
        """Yield what can be done to the images beside what is done already, mildest first."""
        if bool(self.found.any()) and (self.neutral is None or self.neutral.even is None):
            yield replace(self.neutral or Neutral(), even=self._even())
        whole = self.texture.neutral
        if whole is not None and not (self.neutral and self.neutral.of_texture):
            yield replace(whole, even=None if self.neutral is None else self.neutral.even)

    def _even(self) -> EvenOutside:
        """Return what makes brightness and contrast outside the found places alike."""
        stack = self.as_given[0]
        count = len(stack.unit_label)
        units = (stack.image[stack.unit_index == k].transpose(0, 1) for k in range(count))
        return EvenOutside.like(self.found, units)

    def _see(self, neutral: Neutral | None) -> None:
        """Change the images of both parts."""
        unchanged = neutral is None and self.neutral is None
        self.neutral = neutral
        if not unchanged:
            parts = self.as_given
            self.train, self.validation = parts if neutral is None else map(neutral.changed, parts)

    def _find_marks(self, progress: Callable[[str], None] | None) -> None:
        """Find marks that move, each with a network that was trained without those before."""
        network = self.first
        for number in range(1, self.settings.rounds + 1):
            assert network is not None
            mark = find_mark(network, self.train, self.validation, seed=self.seed)
            if progress is not None:
                said = "no more" if self.marks else "none"
                progress(f"marks that move: {said if mark is None else f'J {mark.j:.2f}'}")
            if mark is None:
                return
            self.marks.append(mark)
            self._see(Neutral(marks=tuple(self.marks)))
            if number < self.settings.rounds:
                network = self._trained(number, progress)

    def _take_up(self, earlier: Search) -> None:
        """Continue after the rounds of a stopped search."""
        self.places, self.history = list(earlier.places), list(earlier.history)
        self.first, self.bounds = earlier.network, earlier.j_net_interval
        self.found, self.texture = torch.from_numpy(earlier.place), earlier.texture
        self._see(earlier.neutral)

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
    ) -> nn.Module:
        s = self.settings
        network = make_network(self.factory, self.train, self.seed + number - 1)
        short_training(
            network,
            self.train,
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
        most = s.max_share if self.train.volumes else s.max_share_2d
        return Place(
            mask=mask.numpy(),
            j=judged.j,
            share=float(mask.double().mean()),
            accepted=judged.j >= s.threshold and whole <= most and number <= s.rounds,
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
        return self.texture.everywhere and not self.train.volumes

    def _concluded(self, name: str, complete: bool) -> Search:
        j_net = self.history[0]["j_net"]
        shortcut = j_net >= self.settings.threshold_net
        places, neutral = self.places, self.neutral
        kind: Kind = "none"
        if any(place.accepted for place in places):
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
        if kind == "texture":
            neutral = neutral or self.texture.neutral
            if neutral is None:
                method = STYLE if self.train.volumes else PLAIN
        return Search(
            shortcut=shortcut,
            j_net=j_net,
            j_net_interval=self.bounds,
            places=tuple(places),
            kind=kind,
            recommended_method=method,
            reason=self._reason(kind, j_net),
            auc=self.history[0]["auc"],
            history=tuple(self.history),
            network=self.first,
            rounds=len(self.history),
            texture=self.texture,
            marks=tuple(self.marks),
            neutral=neutral,
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

    def _reason(self, kind: Kind, j_net: float) -> str:
        caution = _caution(len(self.validation.unit_label))
        if kind == "none":
            return (
                f"No shortcut was found (J_net {j_net:.2f}, from "
                f"{self.settings.threshold_net:.2f} on there is one): train plainly.{caution}"
            )
        if kind == "texture":
            return self._texture_reason() + self._rest() + caution
        if kind == "mark":
            return self._mark_reason() + caution
        if kind == "style":
            return (
                f"The short training decides by something that whole volumes share (J_net "
                f"{j_net:.2f}) and that has no place: exchange the style.{caution}"
            )
        accepted = [place for place in self.places if place.accepted]
        share = sum(place.share for place in accepted)
        count = "one place" if len(accepted) == 1 else f"{len(accepted)} places"
        seen = "" if self.neutral is None else f" on images with {self.neutral.name}"
        return (
            f"A shortcut was found (J_net {j_net:.2f}) at {count} with {share:.1%} of the image "
            f"(J {accepted[0].j:.2f}): exchange its content{seen}.{self._rest()}{caution}"
        )

    def _rest(self) -> str:
        """Return a sentence where a short training still sees it after what was found is gone."""
        left = self.history[-1]["j_net"]
        here = self.train.volumes or bool(self.found.any())
        if not here or left < self.settings.threshold_net:
            return ""
        return (
            f" A short training still tells the classes after that (J_net {left:.2f}): it may "
            "not remove all of it."
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


def _facts(neutral: Neutral | None) -> dict[str, Any] | None:
    return None if neutral is None else neutral.facts()


def _read(facts: dict[str, Any] | None) -> Neutral | None:
    return None if facts is None else Neutral.of(facts)


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
