"""The shortcut that a training found and what it did about it, for the file beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ppi_med.errors import UsageError
from ppi_med.places.exchange import Projection, packed, unpacked
from ppi_med.places.texture import Neutral

_WHERE = {
    "texture": "in the fine detail of the whole image",
    "mark": "in a mark that moves from image to image",
    "style": "without a place",
}
_WITH = {"place": "another class's content there", "style": "another class's style"}
_STEPS = {
    "beside": "each image was trained on beside a copy with {}",
    "coin": "a coin said in each step whether images or copies with {} were trained on",
}


@dataclass(frozen=True, eq=False)
class Account:
    """The shortcut that a training found, and what it did about it.

    Attributes:
        kind: what its search found, as in `ppi_med.places.Search`; None: nothing was
            searched.
        method: what was done, `"place"`, `"style"`, `"neutral"`; None: plain training.
        reason: the search's own sentence, which recommends.
        j_net: J_net of the short network; None where nothing was searched.
        j: J of each accepted place.
        fill: treatment of the place's content, `"exchange"`, `"blind"` or `"project"`.
        step: `"beside"` or `"coin"`.
        mask: the place that was trained at, bool `(H, W)` of images as the network sees them.
        neutral: what takes a texture, marks that move, or a mark's trace in the brightness away.
        projection: what takes the place's direction out of the features.
        caution: a sentence where the validation part was too small to be sure.

    Examples:
        >>> Account("none", j_net=0.05).sentence
        'Before training no shortcut was found (J_net 0.05); the training was plain.'
    """

    kind: str | None = None
    method: str | None = None
    reason: str = ""
    j_net: float | None = None
    j: Sequence[float] = ()
    fill: str = "exchange"
    step: str = "beside"
    mask: Tensor | None = None
    neutral: Neutral | None = None
    projection: Projection | None = None
    caution: str = ""

    @property
    def share(self) -> float | None:
        """Of the image that the place has; None where none was trained at."""
        return None if self.mask is None else float(self.mask.double().mean())

    @property
    def sentence(self) -> str:
        """What was found, how sure that is, and what was done in training."""
        return f"{self._found()}; {self._done()}. {self.caution}".rstrip()

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        facts: dict[str, Any] = {"method": self.method or "plain"}
        if self.kind is not None:
            facts |= {"reason": self.reason, "kind": self.kind}
            facts |= {"j_net": self.j_net, "j": list(self.j), "caution": self.caution}
        if self.method in ("place", "style"):
            facts |= {"fill": self.fill, "step": self.step}
        if self.mask is not None:
            facts["mask"] = packed(self.mask)
        if self.neutral is not None:
            facts["neutral"] = self.neutral.facts()
        if self.projection is not None:
            facts["projection"] = self.projection.facts()
        return facts

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> Account | None:
        """Return what `facts` described; None where there are none.

        Raises:
            UsageError: if they cannot be read.
        """
        if not facts:
            return None
        try:
            mask = unpacked(facts["mask"]) if facts.get("mask") else None
            neutral = Neutral.of(facts["neutral"]) if facts.get("neutral") else None
            projection = Projection.of(facts["projection"]) if facts.get("projection") else None
            done = "neutral" if neutral is not None else "place" if mask is not None else None
            method = facts.get("method", done)
            made = cls(
                kind=facts.get("kind"),
                method=None if method == "plain" else method,
                reason=str(facts.get("reason", "")),
                j_net=None if facts.get("j_net") is None else float(facts["j_net"]),
                j=tuple(float(one) for one in facts.get("j", ())),
                fill=str(facts.get("fill", "exchange")),
                step=str(facts.get("step", "beside")),
                mask=mask,
                neutral=neutral,
                projection=projection,
                caution=str(facts.get("caution", "")),
            )
            _ = made.sentence  # whose words are of known values alone
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"what was done about a shortcut cannot be read beside the weights ({error}): "
                "copy both files again."
            ) from error
        return made

    def _found(self) -> str:
        share = "" if self.share is None else f" with {100 * self.share:.1f} % of the image"
        if self.kind is None:
            return f"A place{share} was given to the training" if share else "Nothing was searched"
        values = "" if self.j_net is None else f"J_net {self.j_net:.2f}"
        if self.kind == "none":
            return f"Before training no shortcut was found ({values})"
        if self.kind == "place":
            places = "one place" if len(self.j) == 1 else f"{len(self.j)} places"
            values += "".join(f", J {one:.2f}" for one in self.j)
            return f"Before training a shortcut was found at {places}{share} ({values})"
        return f"Before training a shortcut was found {_WHERE[self.kind]} ({values})"

    def _done(self) -> str:
        if self.method is None:
            return "the training was plain"
        seen = "" if self.neutral is None else self.neutral.name
        if self.method == "neutral":
            return f"images are changed ({seen}), in training and here"
        also = f", all of them changed ({seen}), in training and here" if seen else ""
        if self.method == "place" and self.fill == "blind":
            first = f" ({seen} first)" if seen else ""
            return f"it is blanked, in training and here{first}"
        if self.method == "place" and self.fill == "project":
            done = "after plain training its direction is projected out of the features, here too"
            return done + also
        return _STEPS[self.step].format(_WITH[self.method]) + also
