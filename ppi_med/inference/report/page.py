"""The content of a report, and its page: one file, readable offline, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.inference.report.pictures import (
    Maps,
    bars,
    en_face,
    en_face_map,
    encode_maps,
    encode_slices,
    level,
    outline,
    percent,
    with_inside,
)
from ppi_med.io import write_text


@dataclass(frozen=True)
class Point:
    """A place in a slice that the page marks.

    Attributes:
        slice: its number, from 0.
        row: in pixels from the upper edge, 0 in the centre of the first.
        column: in pixels from the left edge.
        text: its description.
    """

    slice: int
    row: float
    column: float
    text: str = ""


@dataclass(frozen=True)
class ReportContent:
    """The content of one report.

    Attributes:
        finding: the finding of the probability, such as "geographic atrophy".
        source: name of the file.
        probability: in [0, 1].
        pixels: uint8, `(S, H, W)`.
        weights: weights of the slices, summing to 1, `(S,)`; `None` where each is an answer of its
            own.
        slice_probabilities: probabilities of the slices, each for itself, `(S,)`.
        saliency: float32 of the pixels' shape, or `None`.
        spacing_mm: between columns, rows and slices; `None` where unknown.
        facts: label and value of the table's rows.
        warnings: sentences.
        notes: sentences.
        map_grid: (depth, width) on which the map was computed, if not the pixels' own.
        map_caption: a sentence on what the map shows.
        modality: in the heading.
        slice_name: word for a slice.
        slice_titles: a name for each slice, shown with it; none by default.
        points: places to mark.
        front: show the mean over the rows, a view from the front.
        about: meaning of the probability, as a sentence.
        shortcut: the shortcut that the training found, and what it did about it, as a sentence.
        place: the shortcut's place, bool `(H, W)` of the pixels' own grid; `None` without one.

    Raises:
        ValueError: if the parts do not fit each other.

    Examples:
        >>> content = ReportContent(
        ...     "geographic atrophy", "a.mat", 0.5, np.zeros((2, 4, 3), np.uint8),
        ...     np.array([0.5, 0.5]), np.array([0.5, 0.5]))
        >>> content.saliency is None
        True
    """

    finding: str
    source: str
    probability: float
    pixels: NDArray[np.uint8]
    weights: NDArray[np.floating] | None
    slice_probabilities: NDArray[np.floating]
    saliency: NDArray[np.float32] | None = None
    spacing_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    map_grid: tuple[int, int] | None = None
    map_caption: str = ""
    modality: str = "OCT"
    slice_name: str = "B-scan"
    slice_titles: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    front: bool = True
    about: str = (
        "a neural network’s estimate for the whole volume, the weighted mean of its B-scans’ own "
        "probabilities."
    )
    shortcut: str = ""
    place: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if len(shape) != 3 or 0 in shape or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels are {self.pixels.dtype} {shape}, expected uint8 (S, H, W).")
        for name in ("weights", "slice_probabilities"):
            values = getattr(self, name)
            if values is not None and values.shape != (shape[0],):
                raise ValueError(
                    f"{name} has the shape {values.shape}, expected one per slice, {shape[:1]}."
                )
        if self.slice_titles and len(self.slice_titles) != shape[0]:
            raise ValueError(
                f"{len(self.slice_titles)} titles, expected one per slice, {shape[0]}."
            )
        if self.saliency is not None and self.saliency.shape != shape:
            raise ValueError(f"the map has the shape {self.saliency.shape}, expected {shape}.")
        if self.place is not None and self.place.shape != shape[1:]:
            raise ValueError(f"the place is {self.place.shape}, expected (H, W), {shape[1:]}.")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}, expected 0 to 1.")


MAX_BYTES = 14_000_000
"""Approximate largest size of a report, for any volume."""

_WEIGHTS_HEIGHT, _PROBABILITIES_HEIGHT = 100, 60
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_MAP_CONTROLS = """<label class="check"><input type="checkbox" id="overlay-on" checked>
      Overlay of the map</label>
      <div class="opacity"><label for="opacity">Strength</label>
      <input type="range" id="opacity" min="0" max="100" value="75" step="5">
      <output id="opacity-number" for="opacity">75 %</output></div>
      <fieldset><legend>Scale</legend>
      <label class="check"><input type="radio" name="scale" id="scale-volume" checked>
      common</label>
      <label class="check"><input type="radio" name="scale" id="scale-slice">
      {word}</label></fieldset>
      <div><div class="scale"></div>
      <div class="ends"><span>speaks against it</span><span>speaks for it</span></div></div>"""

_OUTLINE_CONTROLS = """<label class="check"><input type="checkbox" id="outline-on" checked>
      Outline of the shortcut’s place</label>"""
_OUTLINE_KEY = "<dt>L</dt><dd>outline of the shortcut’s place on or off</dd>"

_READING_WEIGHTED = (
    "The network looks at each B-scan by itself and gives it a probability of its own. It also "
    "gives each B-scan a weight; the weights add up to 100 %. The probability of the volume is the "
    "weighted mean."
)
_READING_SINGLE = "The network looks at each by itself and gives it a probability of its own."


def write_report(path: str | Path, content: ReportContent, max_bytes: int = MAX_BYTES) -> Path:
    """Write a report, atomically.

    Args:
        path: ends in `.html`.
        content: the content.
        max_bytes: largest size in bytes of the file; the pictures are compressed to fit.

    Returns:
        The path.
    """
    path = Path(path)
    write_text(path, build_report(content, max_bytes))
    return path


def build_report(content: ReportContent, max_bytes: int = MAX_BYTES) -> str:
    """Return the page of a report.

    It refers to nothing outside: pictures are embedded, and its policy forbids a browser to load
    anything or to run any script but the page's own.

    Args:
        content: the content.
        max_bytes: largest size in bytes of the page; the pictures are compressed to fit.
    """
    maps = None if content.saliency is None else encode_maps(content.saliency, content.map_grid)
    left = max_bytes - (0 if maps is None else sum(map(len, maps.data)))
    pictures = encode_slices(content.pixels, max(left, 0))
    style, script = _part("report.css"), _part("report.js")
    values = {
        "style": style,
        "script": script,
        "style_hash": _policy_hash(style),
        "script_hash": _policy_hash(script),
        "data": _embedded(_data(content, pictures.data, maps)),
        "picture_size": f"{pictures.size[0]} x {pictures.size[1]} pixels",
        "quality": str(pictures.quality),
        "map_size": "no map" if maps is None else f"{maps.size[0]} x {maps.size[1]} pixels",
        **_texts(content),
        **_plots(content),
    }
    return _PLACE.sub(lambda place: values[place[1]], _part("template.html"))


def _texts(content: ReportContent) -> dict[str, str]:
    source, finding = html.escape(content.source), html.escape(content.finding)
    return {
        "title": f"{source}: {finding}",
        "heading": f"{html.escape(content.modality)} report: {finding}",
        "slice": html.escape(content.slice_name),
        "about": html.escape(content.about),
        "unit": "pixels" if None in content.spacing_mm[:2] else "millimetres",
        "reading": _READING_WEIGHTED if content.weights is not None else _READING_SINGLE,
        "front_section": _front(content),
        "source": source,
        "finding": finding,
        "probability": percent(content.probability),
        "gauge": f"{100 * content.probability:.2f}",
        "count": str(len(content.pixels)),
        "facts": "".join(_row(label, value) for label, value in content.facts),
        "warnings": _warnings(content.warnings),
        "notes": "".join(f'<p class="note">{html.escape(note)}</p>' for note in content.notes),
        "map_caption": html.escape(content.map_caption),
        "map_controls": _map_controls(content),
        "outline": _outline(content),
        "outline_controls": "" if content.place is None else _OUTLINE_CONTROLS,
        "outline_key": "" if content.place is None else _OUTLINE_KEY,
        "shortcut": _shortcut(content),
    }


def _map_controls(content: ReportContent) -> str:
    if content.saliency is None:
        return ""
    return _MAP_CONTROLS.replace("{word}", f"per {html.escape(content.slice_name)}")


def _outline(content: ReportContent) -> str:
    if content.place is None:
        return ""
    depth, width = content.place.shape
    path = outline(content.place)
    return (
        f'<svg id="outline" viewBox="0 0 {width} {depth}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path class="under" d="{path}"></path><path d="{path}"></path></svg>'
    )


def _shortcut(content: ReportContent) -> str:
    if not content.shortcut:
        return ""
    drawn = "" if content.place is None else '<p><span class="line"></span>its place</p>'
    return (
        '<section class="card" id="shortcut"><h2>Shortcut in the training</h2>'
        f"<p>{html.escape(content.shortcut)}</p>{drawn}</section>"
    )


def _plots(content: ReportContent) -> dict[str, str]:
    count, word = len(content.pixels), content.slice_name
    own = bars(
        content.slice_probabilities,
        top=1.0,
        height=_PROBABILITIES_HEIGHT,
        kind="probabilities",
        label=f"Own probabilities of {count} {word}s",
        unit="own probability",
        word=word,
    )
    rows, dashed = _plot_row("Own probability", "0 to 100 %", own), ""
    if content.weights is not None:
        top = max(float(content.weights.max()), 1e-12)
        weights = bars(
            content.weights,
            top=top,
            height=_WEIGHTS_HEIGHT,
            kind="weights",
            label=f"Weights of {count} {word}s",
            unit="weight",
            word=word,
        )
        plot = with_inside(weights, [level(1 / count, top, _WEIGHTS_HEIGHT)])
        rows = _plot_row("Weight", f"up to {100 * top:.3g} %", plot) + rows
        dashed = " Dashed: the weight that all would have if they counted alike."
    return {"plot_rows": rows, "dashed": dashed}


def _plot_row(name: str, extent: str, plot: str) -> str:
    axis = f'<p class="axis"><b>{name}</b><span>{extent}</span></p>'
    return f'<div class="plot-row">{axis}{plot}</div>'


def _front(content: ReportContent) -> str:
    if not content.front:
        return ""
    between, lateral = content.spacing_mm[2], content.spacing_mm[0]
    scaled = between is not None and lateral is not None and len(content.pixels) > 1
    word = html.escape(content.slice_name)
    caption = "" if scaled else "; proportions unknown"
    return (
        '<section class="card enface" aria-labelledby="enface-title">'
        '<h2 id="enface-title">Seen from the front</h2><div class="front" id="front">'
        f'<img id="front-image" alt="Mean over depth of all {word}s, {word} 1 at the top">'
        '<canvas id="front-overlay" aria-hidden="true"></canvas>'
        '<div class="front-here" id="front-here"></div></div>'
        f'<p class="hint">Mean over depth, {word} 1 at the top{caption}. Click to go to a {word}.'
        "</p></section>"
    )


def _data(content: ReportContent, slices: list[str], maps: Maps | None) -> dict[str, Any]:
    saliency = content.saliency
    return {
        "slices": slices,
        "size": content.pixels.shape[1:],
        "spacing": content.spacing_mm,
        "maps": [] if maps is None else maps.data,
        "peaks": [] if maps is None else [float(f"{peak:.6g}") for peak in maps.peaks],
        "word": content.slice_name,
        "titles": list(content.slice_titles),
        "points": [[p.slice, p.row, p.column, p.text] for p in content.points],
        "weights": None if content.weights is None else [float(v) for v in content.weights],
        "probabilities": [float(value) for value in content.slice_probabilities],
        "front": en_face(content.pixels) if content.front else None,
        "frontMap": en_face_map(saliency) if saliency is not None and content.front else None,
    }


def _row(label: str, value: str) -> str:
    return f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(value)}</dd></div>"


def _warnings(warnings: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in warnings)
    if not items:
        return ""
    return f'<section class="card warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def _embedded(value: Mapping[str, Any]) -> str:
    """Return JSON in which no text can end the script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _part(name: str) -> str:
    return (files("ppi_med.inference.report") / name).read_text(encoding="utf-8").strip()
