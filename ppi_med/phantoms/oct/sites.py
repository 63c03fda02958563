"""The four sites of the OCT phantom: how a clinic's scanner and patients differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ppi_med.errors import UsageError
from ppi_med.phantoms.oct.artefacts import FURTHER, MARKS


@dataclass(frozen=True)
class Site:
    """One clinic with its scanner.

    Attributes:
        name: as in the manifest.
        artefact: name of the mark that its scanner may burn in, one of `MARKS` or `FURTHER`.
        prevalence: part of the subjects that have GA at their last visit.
        width: A-scans as a part of the widest site's.
        looks: looks of the speckle: frames averaged, more is smoother.
        floor_db: noise floor of the detector.
        window_db: weakest and strongest signal on the grey scale.
        gamma: exponent of the grey curve after the window, above 1 is darker.
        grey_noise: deviation of the noise of the grey values, 0 to 255.
        blur_px: deviation of the point spread, axial and lateral, in samples.
        gain_db: gain of the signal from all tissue.
        attenuation_db: loss of signal per mm of tissue.
    """

    name: str
    artefact: str
    prevalence: float
    width: float = 1.0
    looks: float = 4.0
    floor_db: float = 5.0
    window_db: tuple[float, float] = (0.0, 30.0)
    gamma: float = 1.0
    grey_noise: float = 0.0
    blur_px: tuple[float, float] = (0.5, 0.5)
    gain_db: float = 0.0
    attenuation_db: float = 12.0

    def __post_init__(self) -> None:
        if self.artefact not in {**MARKS, **FURTHER}:
            raise UsageError(
                f"Site {self.name}: artefact {self.artefact!r} is unknown, "
                f"expected one of {', '.join(sorted({**MARKS, **FURTHER}))}."
            )
        for name in ("prevalence", "width"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(
                    f"Site {self.name}: {name} is {getattr(self, name)}, expected 0 to 1."
                )

    @property
    def letter(self) -> str:
        """What the ids of its subjects begin with, `A` for `site_a`."""
        return self.name.removeprefix("site_").upper()


SITES: tuple[Site, ...] = (
    Site("site_a", artefact="logo", prevalence=0.5),
    Site(
        "site_b",
        artefact="band",
        prevalence=0.4,
        width=0.9,
        looks=2.0,
        floor_db=8.5,
        window_db=(0.0, 31.0),
        grey_noise=5.0,
        blur_px=(0.4, 0.6),
        gain_db=-1.0,
    ),
    Site(
        "site_c",
        artefact="line",
        prevalence=0.6,
        width=0.8,
        looks=10.0,
        floor_db=1.0,
        window_db=(2.0, 30.0),
        gamma=1.25,
        blur_px=(0.6, 0.8),
        attenuation_db=16.0,
    ),
    Site(
        "site_d",
        artefact="ticks",
        prevalence=0.35,
        width=1.0,
        looks=3.0,
        floor_db=6.0,
        window_db=(3.0, 27.0),
        gamma=0.8,
        grey_noise=3.0,
        blur_px=(0.7, 0.4),
        gain_db=1.0,
        attenuation_db=8.0,
    ),
)


def choose_sites(names: Sequence[str] | None = None) -> tuple[Site, ...]:
    """Return the default sites of these names, all four without names.

    Args:
        names: such as `["site_a", "site_c"]`.

    Raises:
        UsageError: if a name is unknown, or there are no or repeated names.

    Examples:
        >>> [site.artefact for site in choose_sites(["site_a", "site_c"])]
        ['logo', 'line']
    """
    known = {site.name: site for site in SITES}
    if names is None:
        return SITES
    for name in names:
        if name not in known:
            raise UsageError(f"Site {name!r} is unknown, expected some of {', '.join(known)}.")
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Sites are {list(names)}, expected one or more different names.")
    return tuple(known[name] for name in names)
