"""The report in headless Chromium: it scrolls, overlays, draws, and asks nothing of any network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.inference.report import Point, write_report
from tests.inference.report.conftest import DEPTH, NASTY, SLICES, WIDTH, grey_of, make_content
from tests.inference.report.opened import opened

pytestmark = pytest.mark.browser

HEAVIEST = 4


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path / "report.html", make_content())


def test_it_starts_at_the_heaviest_slice(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        assert view.number() == HEAVIEST
        assert view.page.inner_text("#number") == f"{HEAVIEST + 1} / {SLICES}"
        assert view.grey() == pytest.approx(grey_of(HEAVIEST), abs=2)
        assert view.page.inner_text("#probability") == "73.4 %"
        assert "40.0 %" in view.page.inner_text("#status")


def test_the_slider_changes_the_slice(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        for number in range(SLICES):
            view.page.fill("#slider", str(number + 1))
            assert view.number() == number
            assert view.grey() == pytest.approx(grey_of(number), abs=2)
            assert view.page.get_attribute("#slice", "alt") == f"B-scan {number + 1} of {SLICES}"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["ArrowLeft"], HEAVIEST - 1),
        (["ArrowUp", "ArrowUp"], HEAVIEST - 2),
        (["ArrowRight"], HEAVIEST + 1),
        (["ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown"], SLICES - 1),
        (["Home"], 0),
        (["Home", "ArrowLeft"], 0),
        (["End"], SLICES - 1),
        (["PageUp"], 0),
        (["Home", "w"], HEAVIEST),
    ],
)
def test_keys(browser: Any, report: Path, keys: list[str], expected: int) -> None:
    with opened(browser, report) as view:
        for key in keys:
            view.page.keyboard.press(key)
        assert view.number() == expected
        assert view.grey() == pytest.approx(grey_of(expected), abs=2)


def test_arrow_keys_step_once_with_the_slider_in_focus(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        view.page.focus("#slider")
        view.page.keyboard.press("ArrowLeft")
        assert view.number() == HEAVIEST - 1


def test_wheel(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        view.page.hover("#stage")
        view.page.mouse.wheel(0, 50)
        view.page.wait_for_function(f"document.getElementById('slider').value > {HEAVIEST + 1}")
        assert view.number() == HEAVIEST + 1
        view.page.mouse.wheel(0, -100)
        view.page.wait_for_function(f"document.getElementById('slider').value <= {HEAVIEST}")
        assert view.page.evaluate("window.scrollY") == 0


def test_one_bar_a_slice_and_a_click_jumps(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        for plot in (".weights", ".probabilities"):
            assert view.page.locator(f"{plot} .bar").count() == SLICES
            assert view.page.locator(f"{plot} .bar.current").count() == 1
        heights = [
            float(bar.get_attribute("height")) for bar in view.page.locator(".weights .bar").all()
        ]
        np.testing.assert_allclose(
            np.array(heights) / max(heights), np.array([1, 2, 3, 4, 8, 1, 1]) / 8
        )
        for plot, number in ((".weights", 1), (".probabilities", 6)):
            box = view.page.locator(f"svg{plot}").bounding_box()
            x = box["x"] + box["width"] * (number + 0.5) / SLICES
            view.page.mouse.click(x, box["y"] + 3)
            assert view.number() == number
            current = view.page.locator(f"{plot} .bar.current")
            assert current.get_attribute("data-slice") == str(number)
        view.page.locator("#front").scroll_into_view_if_needed()
        box = view.page.locator("#front").bounding_box()
        view.page.mouse.click(box["x"] + 9, box["y"] + box["height"] * 2.5 / SLICES)
        assert view.number() == 2


def test_overlay_on_and_off(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        assert view.colour() > 10
        with_map = view.frame()
        height, width = with_map.shape[:2]
        warm = with_map[height // 4, width // 4]
        cold = with_map[3 * height // 4, 3 * width // 4]
        assert warm[0] > warm[2] + 50
        assert cold[2] > cold[0] + 50
        view.page.uncheck("#overlay-on")
        assert view.colour() == 0
        assert view.frame().mean() == pytest.approx(grey_of(HEAVIEST), abs=8)  # scale bars
        view.page.keyboard.press("o")
        assert view.page.is_checked("#overlay-on")
        np.testing.assert_array_equal(view.frame(), with_map)


def test_strength(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        strong = view.colour()
        view.page.fill("#opacity", "30")
        assert view.page.inner_text("#opacity-number") == "30 %"
        weak = view.colour()
        assert 0 < weak < 0.6 * strong
        view.page.keyboard.press("+")
        assert view.page.input_value("#opacity") == "40"
        assert weak < view.colour() < strong


def test_scale_of_the_map(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        strong = view.colour()
        view.page.keyboard.press("Home")
        common = view.colour()
        assert common < 0.5 * strong  # the first slice has an eighth of the greatest weight
        view.page.check("#scale-slice")
        view.page.wait_for_timeout(100)
        assert view.colour() > 0.8 * strong


def test_true_proportions(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        plain = view.page.locator("#frame").bounding_box()
        assert plain["width"] / plain["height"] == pytest.approx(WIDTH / DEPTH, rel=0.02)
        view.page.check("#proportions")
        true = view.page.locator("#frame").bounding_box()
        ratio = (WIDTH * 0.05) / (DEPTH * 0.02)
        assert true["width"] / true["height"] == pytest.approx(ratio, rel=0.02)
        assert view.page.inner_text("#bar-x") == "500 µm"
        part = view.page.locator("#bar-x").bounding_box()["width"] / true["width"]
        assert part * WIDTH * 0.05 == pytest.approx(0.5, rel=0.05)


def is_line(pixel: np.ndarray) -> bool:
    """The outline is green on the grey picture."""
    return bool(pixel[1] > pixel[0] + 40 and pixel[1] > pixel[2] + 40)


def test_the_place_is_outlined_where_it_is_and_can_be_hidden(browser: Any, tmp_path: Path) -> None:
    place = np.zeros((DEPTH, WIDTH), bool)
    place[8:16, 30:45] = True
    content = make_content(saliency=None, place=place, shortcut="Found at one place; blanked.")
    with opened(browser, write_report(tmp_path / "r.html", content)) as view:
        page = view.page
        assert "Found at one place; blanked." in page.inner_text("#shortcut")
        for keys in ([], ["Home"], ["End"]):
            for key in keys:
                page.keyboard.press(key)
            picture = view.frame()
            across, down = picture.shape[1] / WIDTH, picture.shape[0] / DEPTH
            for row, column in ((8, 37), (16, 37), (12, 30), (12, 45)):
                assert is_line(picture[round(row * down), round(column * across)]), (row, column)
            for row, column in ((12, 37), (4, 37), (12, 50)):
                assert not is_line(picture[round(row * down), round(column * across)])
        page.uncheck("#outline-on")
        assert page.locator("#outline").is_hidden()
        assert not any(is_line(pixel) for pixel in view.frame().reshape(-1, 3))
        page.keyboard.press("l")
        assert page.is_checked("#outline-on") and page.locator("#outline").is_visible()
        assert page.get_by_role("checkbox", name="Outline of the shortcut’s place").count() == 1


def test_unknown_spacing_promises_nothing(browser: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", make_content(spacing_mm=(None, 0.02, None)))
    with opened(browser, path) as view:
        assert view.page.is_disabled("#proportions")
        assert not view.page.is_visible("#bar-x")
        assert view.page.is_visible("#bar-y")
        view.page.keyboard.press("p")
        assert not view.page.is_checked("#proportions")
        assert "proportions unknown" in view.page.inner_text(".enface")


def test_names_are_never_markup(browser: Any, tmp_path: Path) -> None:
    nasty = make_content(
        source=NASTY,
        facts=(("File", NASTY), (NASTY, "x")),
        warnings=(NASTY,),
        notes=(NASTY,),
        finding=NASTY,
        map_caption=NASTY,
    )
    with opened(browser, write_report(tmp_path / "r.html", nasty)) as view:
        view.number()
        assert view.page.evaluate("typeof window.hacked") == "undefined"
        assert view.page.inner_text(".source") == NASTY
        assert view.page.title() == f"{NASTY}: {NASTY}"
        assert view.page.locator("img").count() == 2
        assert view.page.locator("script").count() == 2


def test_without_a_map(browser: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", make_content(saliency=None))
    with opened(browser, path) as view:
        view.page.keyboard.press("ArrowLeft")
        view.page.keyboard.press("o")
        view.page.keyboard.press("+")
        assert view.grey() == pytest.approx(grey_of(HEAVIEST - 1), abs=2)
        assert view.colour() == 0
        assert view.page.locator("#overlay-on").count() == 0


def test_a_single_slice(browser: Any, tmp_path: Path) -> None:
    one = make_content(
        pixels=np.full((1, DEPTH, WIDTH), 99, np.uint8),
        weights=np.ones(1),
        slice_probabilities=np.array([0.4]),
        saliency=np.zeros((1, DEPTH, WIDTH), np.float32),
    )
    with opened(browser, write_report(tmp_path / "r.html", one)) as view:
        view.page.keyboard.press("ArrowRight")
        assert view.number() == 0
        assert view.grey() == pytest.approx(99, abs=2)


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (800, 900), (390, 800)])
def test_it_fits_the_screen(browser: Any, report: Path, size: tuple[int, int]) -> None:
    with opened(browser, report, size) as view:
        view.number()
        assert view.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        box = view.page.locator("#slider").bounding_box()
        assert box["y"] + box["height"] < size[1]


def test_every_control_has_a_name(browser: Any, report: Path) -> None:
    with opened(browser, report) as view:
        for role, name in (
            ("slider", "B-scan"),
            ("checkbox", "Overlay of the map"),
            ("slider", "Strength"),
            ("radio", "common"),
            ("checkbox", "True proportions"),
        ):
            assert view.page.get_by_role(role, name=name).count() == 1, name
        reached = set()
        for _ in range(9):
            view.page.keyboard.press("Tab")
            reached.add(view.page.evaluate("document.activeElement.id"))
        assert {"slider", "overlay-on", "opacity", "proportions"} <= reached


def test_on_a_phone(browser: Any, report: Path) -> None:
    """At 360 pixels the scale bars' words are apart, and the probability is before the table."""
    with opened(browser, report, (360, 740)) as view:
        boxes = [view.page.locator(f"#bar-{axis} span").bounding_box() for axis in "xy"]
        (left, right) = sorted(boxes, key=lambda box: box["x"])
        apart = left["x"] + left["width"] <= right["x"]
        above = min(b["y"] + b["height"] for b in boxes) <= max(b["y"] for b in boxes)
        assert apart or above, boxes
        top = {
            name: view.page.locator(name).bounding_box()["y"]
            for name in ("#probability", "#frame", ".warnings", "#facts")
        }
        assert top["#frame"] < top["#probability"] < top[".warnings"] < top["#facts"]
        assert view.page.evaluate("document.documentElement.scrollWidth") <= 360


def ct(**changes: Any) -> Any:
    content = make_content(
        modality="CT",
        slice_name="slice",
        weights=None,
        front=False,
        points=(Point(2, 9.5, 29.5, "the map's greatest value"),),
        slice_titles=tuple(f"z = {n} mm" for n in range(SLICES)),
        spacing_mm=(0.5, 0.5, 1.0),
        slice_probabilities=np.linspace(1, 0, SLICES),
    )
    return replace(content, **changes)


def test_ct_scrolls_and_marks_points_in_millimetres(browser: Any, tmp_path: Path) -> None:
    with opened(browser, write_report(tmp_path / "ct.html", ct())) as view:
        page = view.page
        assert view.number() == 0 and page.inner_text("h1").startswith("CT report")
        assert "z = 0 mm" in page.inner_text("#status") and "Weight" not in page.inner_text("body")
        assert page.locator(".point").count() == 0 and page.locator("#front").count() == 0
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert view.number() == 2 and page.locator(".point").count() == 1
        words = "the map's greatest value: 15.00 mm from the left, 5.00 mm from the top"
        assert page.inner_text("#place") == words
        frame, point = (page.locator(name).bounding_box() for name in ("#frame", ".point"))
        assert point["x"] + point["width"] / 2 == pytest.approx(
            frame["x"] + frame["width"] / 2, abs=1
        )
        assert view.colour() > 1
        page.keyboard.press("o")
        assert page.locator("#overlay").evaluate("e => e.style.visibility") == "hidden"


def test_a_distance_in_millimetres(browser: Any, tmp_path: Path) -> None:
    with opened(browser, write_report(tmp_path / "ct.html", ct(points=()))) as view:
        box = view.page.locator("#frame").bounding_box()
        for part in (0.25, 0.75):
            view.page.mouse.click(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        text = view.page.inner_text("#place")
        millimetres = float(text.split("distance ")[1].removesuffix(" mm"))
        assert millimetres == pytest.approx(WIDTH * 0.5 / 2, abs=0.2)
        view.page.keyboard.press("ArrowRight")
        assert view.page.locator("#place").is_hidden()


def test_pixels_where_the_spacing_is_unknown(browser: Any, tmp_path: Path) -> None:
    content = ct(spacing_mm=(None, None, None), points=(Point(0, 4, 6),))
    with opened(browser, write_report(tmp_path / "ct.html", content)) as view:
        assert view.page.get_attribute(".point", "title") == "column 7, row 5"
