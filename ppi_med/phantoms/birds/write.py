"""The bird phantom on the disk: in CUB's layout, read back by CUB's reader."""

from __future__ import annotations

from pathlib import Path

from ppi_med.data.photos.convert import Datalist, convert_photos
from ppi_med.data.photos.cub import BOXES, CLASSES, FOLDER, IMAGES, LABELS, SITES, SPLIT
from ppi_med.io import atomic_path, write_text
from ppi_med.phantoms.base import phantom_folder
from ppi_med.phantoms.birds.render import render_bird
from ppi_med.phantoms.birds.shapes import SPECIES
from ppi_med.phantoms.birds.spec import BirdPhantomSpec, PlannedBird

GENERATOR_VERSION = 1
"""Counted up whenever the same parameters would give other files."""


def make_bird_phantom(
    spec: BirdPhantomSpec, output: str | Path, *, validation: float = 0.15
) -> Datalist:
    """Write `CUB_200_2011/` and convert it like the real one.

    Existing pictures of the same phantom are kept, so a stopped run continues.

    Args:
        spec: specification of the phantom.
        output: folder of the data set.
        validation: share of the training images that become the validation part.

    Returns:
        The datalist; the test part holds every bird twice, by its site `tied` and `swapped`.

    Raises:
        UsageError: if the folder holds a phantom with other parameters, or other files.
    """
    output = Path(output)
    content = {
        "phantom": "birds",
        "note": "Simulated pictures: figures from them must be labelled so.",
        "generator_version": GENERATOR_VERSION,
        "parameters": spec.parameters(),
    }
    with phantom_folder(output, content):
        _write_all(spec, output / FOLDER)
    return convert_photos(output, output, layout="cub", validation=validation, seed=spec.seed)


def _write_all(spec: BirdPhantomSpec, root: Path) -> None:
    birds = spec.plan()
    boxes = [_write(bird, spec, root / "images" / _file(bird)) for bird in birds]
    ids = range(1, len(birds) + 1)
    tables = {
        IMAGES: [_file(bird) for bird in birds],
        LABELS: [str(bird.species + 1) for bird in birds],
        SPLIT: [str(int(bird.training)) for bird in birds],
        BOXES: [" ".join(f"{value:.1f}" for value in box) for box in boxes],
        SITES: [bird.site for bird in birds],
    }
    for name, values in tables.items():
        lines = [f"{i} {value}" for i, value in zip(ids, values, strict=True)]
        write_text(root / name, "\n".join(lines) + "\n")
    classes = [f"{i + 1} {_folder(i)}" for i in range(spec.classes)]
    write_text(root / CLASSES, "\n".join(classes) + "\n")


def _write(bird: PlannedBird, spec: BirdPhantomSpec, path: Path) -> tuple[int, int, int, int]:
    from PIL import Image

    picture, box = render_bird(bird.bird, bird.species, bird.habitat, spec.size, spec.seed)
    if not path.exists():
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    return box


def _folder(species: int) -> str:
    return f"{species + 1:03d}.{SPECIES[species].name}"


def _file(bird: PlannedBird) -> str:
    return f"{_folder(bird.species)}/{bird.name}.png"
