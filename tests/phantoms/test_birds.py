"""The bird phantom: boxes, habitats tied to the class, swapped pairs, the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.data.photos.pixels import read_pixels
from ppi_med.errors import UsageError
from ppi_med.phantoms.birds.render import HABITATS, paint_habitat, render_bird
from ppi_med.phantoms.birds.spec import BirdPhantomSpec
from ppi_med.phantoms.birds.write import make_bird_phantom

SMALL = BirdPhantomSpec(classes=3, training=12, test=3, size=32)


def test_the_box_is_where_two_pictures_of_one_bird_agree() -> None:
    for name in ("1", "2", "3"):
        pictures = [
            render_bird(name, 1, h, 48, seed=0)[0].astype(int) for h in ("sea", "snow", "sand")
        ]
        x, y, width, height = render_bird(name, 1, "sea", 48, seed=0)[1]
        differs = np.abs(pictures[0] - pictures[1]).max(2) + np.abs(pictures[0] - pictures[2]).max(
            2
        )
        same = differs == 0
        rows, columns = np.nonzero(same)
        inside = (rows >= y) & (rows < y + height) & (columns >= x) & (columns < x + width)
        assert inside.all() and inside.size > 0.2 * width * height
        assert x >= 0 and x + width <= 48 and y >= 0 and y + height <= 48


def test_the_bird_is_as_large_as_it_says() -> None:
    sides = [max(render_bird(str(i), i % 8, "sea", 64, 0)[1][2:]) / 64 for i in range(16)]
    assert min(sides) > 0.48 and max(sides) < 0.86


def test_habitats_differ() -> None:
    means = [paint_habitat(h, 32, np.random.default_rng(0)).mean((0, 1)) for h in HABITATS]
    distance = min(float(np.abs(a - b).max()) for i, a in enumerate(means) for b in means[:i])
    assert distance > 15


@pytest.mark.parametrize("agreement", [0.95, 0.5, 0.0])
def test_habitats_are_tied_as_often_as_asked(agreement: float) -> None:
    birds = BirdPhantomSpec(training=3000, test=600, agreement=agreement, seed=3).plan()
    names = list(HABITATS)
    tied = [b.habitat == names[b.species] for b in birds if b.site == "tied"]
    assert abs(float(np.mean(tied)) - agreement) < 0.02
    swapped = [b for b in birds if b.site == "swapped"]
    assert len(swapped) == 600 and not any(b.training for b in swapped)
    assert not any(b.habitat == names[b.species] for b in swapped)


def test_each_test_bird_is_there_twice() -> None:
    birds = [b for b in SMALL.plan() if not b.training]
    pairs = {b.bird: [o for o in birds if o.bird == b.bird] for b in birds}
    assert all([b.site for b in pair] == ["tied", "swapped"] for pair in pairs.values())
    assert all(len({b.species for b in pair}) == 1 for pair in pairs.values())


def test_the_data_set(tmp_path: Path) -> None:
    made = make_bird_phantom(SMALL, tmp_path / "a", validation=0.25)
    assert [len(items) for items in made.values()] == [9, 3, 6]
    assert all(len(item["boxes"]) == 1 for items in made.values() for item in items)
    items = load_parts(tmp_path / "a/datalist.json", "test", sites="swapped")
    assert len(items) == 3 and read_pixels(items[0]["image"]).shape == (32, 32, 3)
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("*.*") if p.is_file()}
    make_bird_phantom(SMALL, tmp_path / "a", validation=0.25)
    make_bird_phantom(SMALL, tmp_path / "b", validation=0.25)
    for folder in "ab":
        after = {p.name: p.read_bytes() for p in (tmp_path / folder).rglob("*.*") if p.is_file()}
        assert after == before
    with pytest.raises(UsageError, match="other parameters"):
        make_bird_phantom(BirdPhantomSpec(classes=4, training=12, test=4, size=32), tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/note.txt").write_text("mine")
    with pytest.raises(UsageError, match="no phantom"):
        make_bird_phantom(SMALL, tmp_path / "c")


@pytest.mark.parametrize(
    "wrong",
    [{"classes": 1}, {"classes": 9}, {"agreement": 1.1}, {"test": 2}, {"size": 8}, {"seed": -1}],
)
def test_parameters_outside_their_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        BirdPhantomSpec(**wrong)
