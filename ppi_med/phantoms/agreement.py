"""The choice of volumes with their site's mark, for a requested agreement with the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.phantoms.base import stream

Agreement = float | None | Mapping[str, float | None]
"""One value for all sites, or a value for each by name (no artefact at those not named).

A value is the part of the volumes in which "the mark is there" equals "the label is 1": 1.0 is a
perfect shortcut, 0.5 says nothing, 0.0 is reversed. None: no mark anywhere at the site.
"""


def parse_agreement(text: str) -> Agreement:
    """Read an agreement from the command line.

    Args:
        text: `"0.95"`, `"none"`, or `"site_a=1.0,site_b=none"`.

    Raises:
        UsageError: if it is neither a number from 0 to 1, nor "none", nor a list by site.

    Examples:
        >>> parse_agreement("0.95"), parse_agreement("none")
        (0.95, None)
        >>> parse_agreement("site_a=1.0,site_b=none")
        {'site_a': 1.0, 'site_b': None}
    """
    if "=" not in text:
        return _value(text, text)
    values: dict[str, float | None] = {}
    for item in text.split(","):
        name, separator, value = item.strip().partition("=")
        if not separator or not name or name in values:
            raise UsageError(
                f"agreement is {text!r}, expected each site once as NAME=VALUE, commas between."
            )
        values[name] = _value(value, text)
    return values


def of_site(agreement: Agreement, site: str) -> float | None:
    """Return the agreement at a site.

    Raises:
        UsageError: if it is outside 0 to 1.
    """
    value = agreement.get(site) if isinstance(agreement, Mapping) else agreement
    if value is not None and not 0 <= value <= 1:
        raise UsageError(f"agreement at {site} is {value}, expected 0 to 1, or None.")
    return value


class Markable(Protocol):
    """A dataclass of something planned: a volume, a nodule."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def site(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> int: ...  # noqa: D102


Planned = TypeVar("Planned", bound=Markable)


def assign_artefacts(
    volumes: Sequence[Planned],
    agreement: Agreement,
    *,
    parts: Mapping[str, str] | None = None,
    by_part: Mapping[str, Agreement] | None = None,
    seed: int = 0,
) -> list[Planned]:
    """Decide which volumes carry the mark.

    The agreement is met as exactly as whole volumes allow, in each label of each part of each
    site: of n volumes, `round((1 - agreement) * n)` disagree, chosen at random; what one label's
    number loses by rounding, the other's gains.

    Args:
        volumes: the plan.
        agreement: at each site.
        parts: subject -> part of the splits; None: all are one part.
        by_part: part -> its own agreement instead of `agreement`.
        seed: seed of the phantom.

    Returns:
        The plan, in its order, with `artefact` decided.

    Raises:
        UsageError: for an agreement outside 0 to 1 or at a site that is not planned, or `by_part`
            without `parts`.
    """
    by_part = by_part or {}
    if by_part and parts is None:
        raise UsageError("by_part needs parts: say which part each subject is in.")
    for given in (agreement, *by_part.values()):
        _check_names(given, {volume.site for volume in volumes})
    groups: dict[tuple[str, str], list[int]] = {}
    for index, volume in enumerate(volumes):
        part = "" if parts is None else parts.get(volume.subject, "")
        groups.setdefault((volume.site, part), []).append(index)
    marked = list(volumes)
    for (site, part), members in groups.items():
        value = of_site(by_part.get(part, agreement), site)
        if value is None:
            continue
        odd = _disagreeing([volumes[i].label for i in members], value, seed, site, part)
        for index, against in zip(members, odd, strict=True):
            volume = volumes[index]
            marked[index] = replace(volume, artefact=bool(volume.label) != against)
    return marked


def _disagreeing(labels: list[int], agreement: float, seed: int, *names: str) -> list[bool]:
    """Choose the volumes of one part of one site whose mark contradicts the label."""
    rng = stream(seed, *names, "agreement")
    odd = [False] * len(labels)
    owed = 0.0
    for label in (0, 1):
        members = [i for i, value in enumerate(labels) if value == label]
        wanted = (1 - agreement) * len(members) + owed
        number = min(len(members), max(0, int(np.floor(wanted + 0.5))))
        owed = wanted - number
        for i in rng.permutation(len(members))[:number]:
            odd[members[i]] = True
    return odd


def _check_names(agreement: Agreement, sites: set[str]) -> None:
    for name in agreement if isinstance(agreement, Mapping) else ():
        if name not in sites:
            raise UsageError(
                f"agreement is given for {name!r}, expected some of {', '.join(sorted(sites))}."
            )


def _value(text: str, whole: str) -> float | None:
    if text.strip().lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(
            f"agreement is {whole!r}, expected a number from 0 to 1, 'none', or "
            "SITE=NUMBER,SITE=NUMBER."
        )
    return value
