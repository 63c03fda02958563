"""The page as text: nothing outside, everything escaped, a bounded size."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppi_med.inference.report import ReportContent, build_report, write_report
from ppi_med.inference.report.pictures import outline
from tests.inference.report.conftest import DEPTH, NASTY, SLICES, WIDTH, make_content


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in self.inside:
            self.inside[self.open][-1] += data


def embedded(page: str) -> dict[str, Any]:
    return json.loads(Elements(page).inside["script"][0])


def test_nothing_points_outside(content: ReportContent) -> None:
    page = build_report(content)
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.", re.sub(r"base64,[^\"']*", "", page))
    assert "@import" not in page
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "action", "data", "srcset", "style", "onload", "onclick"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name, value)


def test_the_policy_allows_this_style_and_this_script_only(content: ReportContent) -> None:
    elements = Elements(build_report(content))
    policy = next(
        attributes["content"]
        for tag, attributes in elements.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and "default-src 'none'" in policy
    assert "unsafe" not in policy
    for text in (elements.inside["style"][0], elements.inside["script"][1]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_every_text_is_escaped() -> None:
    plain = build_report(make_content())
    nasty = build_report(
        make_content(
            source=NASTY,
            finding=NASTY,
            facts=((NASTY, NASTY),),
            warnings=(NASTY,),
            notes=(NASTY,),
            map_caption=NASTY,
        )
    )
    tags = [tag for tag, _ in Elements(nasty).found if tag in ("script", "img")]
    assert tags == [tag for tag, _ in Elements(plain).found if tag in ("script", "img")]
    assert "<script>window" not in nasty
    assert "onerror=window.hacked=1&gt;" in nasty


def test_placeholders_in_a_name_stay_as_they_are() -> None:
    page = build_report(make_content(source="{{script}} {{nothing}} \\1"))
    assert "{{script}} {{nothing}} \\1" in page
    assert len(Elements(page).inside["script"]) == 2


def test_pictures_and_numbers_are_those_given(content: ReportContent) -> None:
    data = embedded(build_report(content))
    assert len(data["slices"]) == len(data["maps"]) == len(data["peaks"]) == SLICES
    for number, encoded in enumerate(data["slices"]):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        assert image.shape == content.pixels.shape[1:]
        assert abs(image.astype(float) - content.pixels[number]).max() <= 2
    assert data["weights"] == content.weights.tolist()
    assert data["spacing"] == [0.05, 0.02, 0.2]
    heaviest = int(content.weights.argmax())
    assert max(data["peaks"]) == data["peaks"][heaviest]
    np.testing.assert_allclose(
        np.array(data["peaks"]) / data["peaks"][heaviest], content.weights / 0.4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.734, "73.4 %"), (1.0, "over 99.9 %"), (0.0, "under 0.1 %"), (0.9999, "over 99.9 %")],
)
def test_no_probability_claims_certainty(probability: float, text: str) -> None:
    page = build_report(make_content(probability=probability))
    assert f'id="probability">{text}<' in page


def test_it_says_what_it_is_not(content: ReportContent) -> None:
    page = build_report(content)
    assert "Not a medical device" in page
    assert "a diagnosis" in page


@pytest.mark.parametrize("limit", [600_000, 1_500_000])
def test_noise_is_compressed_to_the_limit(tmp_path: Path, limit: int) -> None:
    rng = np.random.default_rng(0)
    slices = 24
    noisy = make_content(
        pixels=rng.integers(0, 255, (slices, 200, 300)).astype(np.uint8),
        weights=np.full(slices, 1 / slices),
        slice_probabilities=np.full(slices, 0.5),
        saliency=None,
    )
    path = write_report(tmp_path / "report.html", noisy, max_bytes=limit)
    assert 0.3 * limit < path.stat().st_size < 1.2 * limit


def test_a_wide_volume_is_made_narrower() -> None:
    wide = make_content(
        pixels=np.zeros((1, 20, 3000), np.uint8),
        weights=np.ones(1),
        slice_probabilities=np.ones(1),
        saliency=np.zeros((1, 20, 3000), np.float32),
    )
    data = embedded(build_report(wide))
    image = Image.open(io.BytesIO(base64.b64decode(data["slices"][0])))
    assert image.size == (1024, 7)
    assert data["size"] == [20, 3000]


def test_the_place_of_a_shortcut_is_outlined_and_told() -> None:
    place = np.zeros((DEPTH, WIDTH), bool)
    place[2:5, 10:20] = True
    page = build_report(make_content(place=place, shortcut=f"Found at one place. {NASTY}"))
    elements = Elements(page).found
    (svg,) = [found for tag, found in elements if tag == "svg" and found.get("id") == "outline"]
    assert svg["viewbox"] == f"0 0 {WIDTH} {DEPTH}"
    paths = [found["d"] for tag, found in elements if tag == "path"]
    assert paths == ["M10 2h10M10 5h10M10 2v3M20 2v3"] * 2
    assert 'id="outline-on"' in page and "Found at one place. &lt;script&gt;" in page
    # The sentence stands also where nothing can be drawn; without one there is neither.
    told = build_report(make_content(shortcut="Nothing was found."))
    assert "Nothing was found." in told and 'id="outline' not in told
    assert 'id="shortcut"' not in build_report(make_content())


def test_an_outline_of_a_ring_has_two_lines() -> None:
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert outline(ring) == "M0 0h3M1 1h1M1 2h1M0 3h3M0 0v3M1 1v1M2 1v1M3 0v3"


def test_writing_is_atomic(tmp_path: Path, content: ReportContent) -> None:
    path = tmp_path / "report.html"
    write_report(path, content)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == build_report(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros((2, 3), np.uint8)}, r"expected uint8 \(S, H, W\)"),
        ({"weights": np.ones(3)}, "expected one per slice"),
        ({"slice_probabilities": np.ones(3)}, "expected one per slice"),
        ({"saliency": np.zeros((1, 2, 3), np.float32)}, "the map has the shape"),
        ({"place": np.zeros((2, 3), bool)}, "the place is"),
        ({"probability": 1.2}, "expected 0 to 1"),
    ],
)
def test_parts_must_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_content(**change)
