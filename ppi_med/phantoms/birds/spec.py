"""The parameters of a bird phantom, and the plan that follows from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.phantoms.base import stream
from ppi_med.phantoms.birds.render import HABITATS
from ppi_med.phantoms.birds.shapes import SPECIES

TIED, SWAPPED = "tied", "swapped"


@dataclass(frozen=True)
class PlannedBird:
    """One image.

    Attributes:
        name: name of the image; two images of one bird on two habitats differ in the site alone.
        bird: what the bird is drawn from.
        species: class index.
        habitat: name of the background.
        training: whether it is a training image.
        site: `tied` (habitat as in training) or `swapped` (habitat of another species).
    """

    name: str
    bird: str
    species: int
    habitat: str
    training: bool
    site: str


@dataclass(frozen=True)
class BirdPhantomSpec:
    """The parameters of a bird phantom.

    Attributes:
        classes: number of species, 2 to 8; each has a habitat of its own.
        training: training images (some become the validation part).
        test: test birds; each is there twice, tied and swapped.
        agreement: share of the images whose habitat is that of their species; the others have
            any other. Also of the tied test images.
        size: side of an image in pixels.
        seed: seed of everything.
    """

    classes: int = 6
    training: int = 900
    test: int = 300
    agreement: float = 0.95
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= len(SPECIES):
            raise UsageError(f"classes is {self.classes}, expected 2 to {len(SPECIES)}.")
        if not 0 <= self.agreement <= 1:
            raise UsageError(f"agreement is {self.agreement}, expected a share from 0 to 1.")
        if min(self.training, self.test) < self.classes:
            raise UsageError(
                f"training is {self.training} and test {self.test}, expected at least one image "
                f"of each of {self.classes} species."
            )
        if self.size < 16 or self.seed < 0:
            raise UsageError(
                f"size is {self.size} and seed {self.seed}, expected 16 or more pixels and 0 or "
                "more."
            )

    def plan(self) -> list[PlannedBird]:
        """Return the images: training, then each test bird tied and swapped."""
        birds = []
        for number in range(self.training + self.test):
            training = number < self.training
            species, name = number % self.classes, f"{number + 1:05d}"
            habitat = self._habitat(name, species, self.agreement)
            birds.append(PlannedBird(name, name, species, habitat, training, TIED))
            if not training:
                other = self._habitat(name, species, 0.0)
                birds.append(PlannedBird(f"{name}s", name, species, other, training, SWAPPED))
        return birds

    def parameters(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def _habitat(self, name: str, species: int, agreement: float) -> str:
        rng = stream(self.seed, name, "which habitat", str(agreement))
        own, names = rng.random() < agreement, list(HABITATS)
        others = [i for i in range(self.classes) if i != species]
        return names[species if own else int(rng.choice(others))]
