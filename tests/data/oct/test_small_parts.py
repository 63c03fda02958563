"""Geometry, pixels, labels, sources, options: the small parts of the conversion."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppi_med.data.oct.labels import Facts, Labels, merge
from ppi_med.data.oct.options import ReadOptions, parse_spacing
from ppi_med.data.oct.prepare import pad_width, pixel_hash, to_uint8, to_unsigned
from ppi_med.data.oct.registry import Source, natural_key, reader_for
from ppi_med.data.oct.sources import find_sources, volume_name
from ppi_med.data.oct.volume import OctReadError, OctVolume, Spacing, between_bscans, check_size
from tests.data.oct import writers


def _lines(n: int, angle: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """B-scans 5 mm long at an angle, `step` apart."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    normal = np.array([-direction[1], direction[0]])
    starts = np.array([1.0, 2.0]) + np.arange(n)[:, None] * step * normal
    return starts, starts + 5 * direction


@given(
    st.integers(2, 60), st.floats(0, 2 * math.pi), st.floats(0.01, 0.3), st.sampled_from([1, -1])
)
@settings(max_examples=60, deadline=None)
def test_distance_at_any_angle(n: int, angle: float, step: float, sign: int) -> None:
    starts, ends = _lines(n, angle, sign * step)
    starts, ends = starts.round(3), ends.round(3)  # as vendors write them
    distance, reason = between_bscans(starts, ends)
    assert reason == "" and distance == pytest.approx(step, abs=0.0015)


def test_distance_is_never_averaged_away() -> None:
    starts, ends = _lines(10, 0.0, 0.05)
    starts[6:] += [0.0, 0.004]
    ends[6:] += [0.0, 0.004]
    distance, reason = between_bscans(starts, ends)
    assert distance is None and "from B-scan 6 to 7" in reason
    starts, ends = _lines(10, 0.0, 0.05)
    ends[4] += [0.0, 0.02]
    assert "B-scan 5 is not parallel" in between_bscans(starts, ends)[1]
    starts, ends = _lines(10, 0.0, 0.0)
    assert "one and the same place" in between_bscans(starts, ends)[1]
    assert between_bscans(starts, starts)[1].startswith("B-scans without")
    assert between_bscans(starts[:1], ends[:1]) == (None, "")
    order = [0, 2, 1, 3, 4, 5, 6, 7, 8, 9]
    starts, ends = _lines(10, 0.0, 0.05)
    assert between_bscans(starts[order], ends[order])[0] is None


@given(st.integers(1, 30), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_padding_repeats_the_edge(width: int, target: int) -> None:
    array = np.random.default_rng(0).integers(0, 255, (2, 3, width)).astype(np.uint8)
    padded, (left, right) = pad_width(array, target)
    assert padded.shape == (2, 3, max(width, target)) and 0 <= right - left <= 1
    for column in range(padded.shape[2]):
        source = min(max(column - left, 0), width - 1)
        np.testing.assert_array_equal(padded[..., column], array[..., source])


def test_bits() -> None:
    deep = np.array([[[0, 255, 256, 65535]]], np.uint16)
    assert to_uint8(deep)[0].tolist() == [[[0, 0, 1, 255]]]
    assert to_uint8(np.array([[[0, 200]]], np.uint16)) == (
        pytest.approx(np.array([[[0, 200]]])),
        "rule: 16-bit pixels divided by 2**0",
    )
    assert to_uint8(deep, (255, 257))[0].tolist() == [[[0, 0, 128, 255]]]
    path = Path("a")
    assert to_unsigned(path, np.array([[[0, 300]]], np.int64))[0].dtype == np.uint16
    for bad in (np.array([[[0.5]]]), np.array([[[np.nan]]]), np.array([[[70000]]]), [[[True]]]):
        with pytest.raises(OctReadError):
            to_unsigned(path, np.asarray(bad))
    with_nan = np.array([[[np.nan, 1.0]]])
    assert to_unsigned(path, with_nan, (0, 1))[0].tolist() == [[[0, 255]]]


def test_hash_tells_order_type_and_shape() -> None:
    pixels = writers.volume()
    same, turned = pixel_hash(pixels.copy()), pixel_hash(pixels[::-1])
    assert same == pixel_hash(pixels)
    assert turned.ordered != same.ordered and turned.unordered == same.unordered
    assert pixel_hash(pixels.astype(np.uint16)).ordered != same.ordered
    assert pixel_hash(pixels.reshape(5, 9, 12)).ordered != same.ordered


def test_volume_checks() -> None:
    with pytest.raises(OctReadError, match="shape"):
        OctVolume(np.zeros((3, 4), np.uint8), reader="x", source=Path("a"))
    with pytest.raises(OctReadError, match="float64"):
        OctVolume(np.zeros((3, 4, 5)), reader="x", source=Path("a"))  # type: ignore[arg-type]
    with pytest.raises(OctReadError, match="mask"):
        OctVolume(
            np.zeros((3, 4, 5), np.uint8),
            reader="x",
            source=Path("a"),
            mask=np.zeros((3, 4, 4), np.uint8),
        )
    with pytest.raises(OctReadError, match="GiB"):
        check_size(Path("a"), (10**6, 10**6), 1)


def test_options_are_checked() -> None:
    for wrong in (
        {"spacing": Spacing(lateral=-1.0)},
        {"spacing": Spacing(axial=11.0)},
        {"laterality": "R"},
        {"shape": (1, 2)},
        {"pad_width": 0},
        {"axes": "xyz"},
        {"window": (5.0, 5.0)},
        {"colour": "maybe"},
    ):
        with pytest.raises(ValueError, match="expected"):
            ReadOptions(**wrong)  # type: ignore[arg-type]
    assert ReadOptions(pad_width=5).hash != ReadOptions(pad_width=6).hash == ReadOptions(
        pad_width=6
    ).hash  # fmt: skip
    for text in ("1,2", "a,b,c", ""):
        with pytest.raises(ValueError, match="LATERAL,AXIAL,BETWEEN"):
            parse_spacing(text)


# --- labels


def _table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_labels(tmp_path: Path) -> None:
    table = Labels(
        _table(
            tmp_path,
            "\ufefffile, subject,eye,label,label_rule,grader\n"
            "a\\x.mat,s1,right,1,two readers,AB\n./b/y.vol,s2,,,,\nz.oct,s3,OS,0.0,,\n",
        )
    )
    found = dict(
        zip("axbz", table.match(sources("a/x.mat", "other", "b/y", "deep/z.oct")), strict=True)
    )
    (first,) = found["a"].rows
    assert first == Facts(
        subject="s1", eye="OD", label=1, label_rule="two readers", extra={"grader": "AB"},
        origin=dict.fromkeys(("subject", "eye", "label"), "user: labels.csv"), line=2,
    )  # fmt: skip
    assert found["z"].rows[0].label == 0 and found["x"].rows == ()
    assert table.notes == ["labels.csv: 1 rows fit no source, first 'b/y.vol'."]
    assert table.extra_columns == ("grader",)
    with pytest.raises(ValueError, match=r"'z.oct' fits 1/z.oct and 2/z.oct"):
        table.match(sources("1/z.oct", "2/z.oct"))


def sources(*names: str) -> list[Source]:
    return [Source(Path(name), name, reader_for(name) or "", (Path(name),)) for name in names]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,label\na,1\n", "expected one named 'file'"),
        ("file,label\na,GA\n", "line 2: label is 'GA'"),
        ("file,label\na,-1\n", "label is '-1'"),
        ("file,label\na,0.5\n", "label is '0.5'"),
        ("file,label\na,inf\n", "labels.csv, line 2: label is 'inf'"),
        ("file,label\na,nan\n", "labels.csv, line 2: label is 'nan'"),
        ("file,eye\na,both\n", "eye is 'both'"),
        ("file,label\na,1\na,0\n", "line 3: 'a' comes twice"),
        ("file,reader\na,AB\n", "labels.csv: the conversion writes a column 'reader'"),
        ("file,image\na,x\n", "column 'image' of its own"),
        ("file,grader,grader\na,x,y\n", "two columns are named 'grader'"),
        ("file,label,label\na,1,0\n", "two columns are named 'label'"),
        ("file,label\na\n", "not as many cells"),
        ("file,label\na,1,2\n", "not as many cells"),
    ],
)
def test_labels_refuse(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        Labels(_table(tmp_path, text))


def test_merge_fills_gaps_only() -> None:
    table = Facts(subject="s", label=0, label_rule="a", origin={"subject": "t", "label": "t"})
    pattern = Facts(
        subject="x", eye="OD", label=1, label_rule="b", origin={"eye": "p", "label": "p"}
    )
    both = merge(table, pattern)
    assert (both.subject, both.eye, both.label, both.label_rule) == ("s", "OD", 0, "a")
    assert both.origin == {"subject": "t", "label": "t", "eye": "p"}
    assert merge(None, None) == Facts()


# --- sources


def test_sources(tmp_path: Path) -> None:
    pixels = writers.volume()
    writers.write_mat(tmp_path / "b10.mat", pixels)
    writers.write_mat(tmp_path / "b2.mat", pixels)
    writers.write_heyex_xml(tmp_path / "he", pixels)
    writers.write_pictures(tmp_path / "he" / "lines", pixels, suffix=".png")
    writers.write_pictures(tmp_path / "stack", pixels)
    writers.write_multipage(tmp_path / "stack" / "pages.tif", pixels)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.mat").write_text("x")
    (tmp_path / "page.xml").write_text("<html/>")
    (tmp_path / "out").mkdir()
    writers.write_mat(tmp_path / "out" / "x.mat", pixels)
    found = find_sources(tmp_path, skip=[tmp_path / "out"])
    assert [(s.relative, s.reader, len(s.files)) for s in found.sources] == [
        ("b2.mat", "matlab", 1),
        ("b10.mat", "matlab", 1),
        ("empty", "", 0),
        ("he/export.xml", "heidelberg-xml", 11),
        ("stack", "images", 5),
        ("stack/pages.tif", "images", 1),
    ]
    assert found.ignored == {".xml": 1}
    single = find_sources(tmp_path / "stack", images="single")
    assert [source.relative for source in single.sources][:2] == ["1.tif", "2.tif"]


def test_hash_of_a_stack_covers_names_and_content(tmp_path: Path) -> None:
    pixels = writers.volume()
    hashes = set()
    for name, planes, names in (
        ("a", pixels, None),
        ("b", pixels[[1, 0, 2, 3, 4]], None),
        ("c", pixels, ["1", "2", "3", "4", "6"]),
    ):
        writers.write_pictures(tmp_path / name, planes, names)
        hashes.add(find_sources(tmp_path / name).sources[0].sha256())
    assert len(hashes) == 3


@given(st.lists(st.text("aB1290 _.-", min_size=1, max_size=8), max_size=12))
@settings(max_examples=50, deadline=None)
def test_natural_order_is_total(names: list[str]) -> None:
    once = sorted(names, key=natural_key)
    assert once == sorted(reversed(names), key=natural_key)


@given(st.lists(st.text(max_size=40), unique=True, max_size=8))
@settings(max_examples=100, deadline=None)
def test_names_are_safe_and_never_shared(paths: list[str]) -> None:
    names = [volume_name(path, folder=True) for path in paths]
    for name in names:
        assert name not in ("", ".", "..") and len(name) <= 110
        assert all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
        assert not name.startswith(".")
    assert len(set(names)) == len(paths)
