"""The page of an audit: one file, readable offline, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import os
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med import __version__
from ppi_med.audit.evidence import RING, Measure
from ppi_med.audit.network import Cluster, Network
from ppi_med.audit.result import Audit
from ppi_med.io import write_text
from ppi_med.places import MovingMark, Search

Grey = NDArray[Any]
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_GROUPS = {
    "around": "Around: where no disease is expected",
    "header": "Outside the image: header, file, table",
    "image": "For comparison",
}
_TEXTS = {"none": "", "look": "look at it", "shortcut": "shortcut"}
_CLASSES = {"none": "", "look": "lookat", "shortcut": "shortcut"}
_MOST_VALUES, _MOST_CLUSTERS, _MOST_MEANS = 12, 16, 6
_SIDE, _GAP = 150, 4
_MOVING = ("", "A mark that moves has a J of its own, below. ")


def write_page(path: str | os.PathLike[str], audit: Audit) -> None:
    """Write the page of an audit, atomically."""
    write_text(path, build_page(audit))


def build_page(audit: Audit) -> str:
    """Return the page: it loads nothing, runs no script, and escapes all names."""
    style = _part("page.css")
    v, s = audit.verdict, audit.source
    state = "found" if v.shortcut else "look" if v.look else "clear"
    heads = {
        "found": "A shortcut was found",
        "look": "No shortcut by the rule; something to look at",
        "clear": "No shortcut was found",
    }
    counts = ", ".join(
        f"{name}: {int((s.label == k).sum())}" for k, name in enumerate(s.classes[:12])
    )
    slices = f", {audit.scale.positions} slices of a volume" if audit.scale.volumes else ""
    looks = [f"Look at: {text}." for text in v.look[:6]]
    values = {
        "style": style,
        "style_hash": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        "name": html.escape(s.name),
        "facts": html.escape(
            f"{len(s.cases)} {'volumes' if audit.scale.volumes else 'images'} of "
            f"{len(set(s.patient))} patients, read as {s.form}. {counts}. "
            f"Validation: {sum(audit.validation)} patients ({audit.split})."
        ),
        "verdict_class": state,
        "verdict": heads[state],
        "reasons": _list([*v.reasons, *looks]),
        "method": html.escape(v.recommended_method),
        "why": html.escape(v.why),
        "command": html.escape(audit.command),
        "warnings": _warnings(audit.warnings),
        "measures": _measures(audit.evidence.measures),
        "grid": _grid_picture(audit.evidence.cells),
        "grid_note": html.escape(_grid_note(audit)),
        "means": _means(audit),
        "network": "" if audit.network is None else _network(audit, audit.network),
        "size": f"{audit.scale.size[0]} x {audit.scale.size[1]}",
        "slices": slices,
        "version": __version__,
    }
    return _PLACE.sub(lambda place: values[place[1]], _part("page.html"))


def _measures(measures: Sequence[Measure]) -> str:
    rows = []
    for group, title in _GROUPS.items():
        own = [m for m in measures if (m.group + " ").startswith(group)]
        if group == "header":
            own += [m for m in measures if m.group == "file"]
        if not own:
            continue
        rows.append(f'<tr class="group"><td colspan="5">{html.escape(title)}</td></tr>')
        rows += [_measure(m) for m in own[:_MOST_VALUES]]
        if len(own) > _MOST_VALUES:
            rows.append(
                f'<tr><td colspan="5">{len(own) - _MOST_VALUES} more in audit.json</td></tr>'
            )
    head = '<tr><th>What is read</th><th class="n">AUC</th><th>0.5 to 1</th>'
    head += '<th class="n">of the whole</th><th>rule</th></tr>'
    return f'<table id="measures"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _measure(m: Measure) -> str:
    name = {"ring": f"ring, outer {RING:.0%}", "middle": "middle, half of each side"}.get(
        m.name, m.name
    )
    share = "" if m.share is None else f"{max(m.share, 0):.0%}"
    return (
        f'<tr><td>{html.escape(name)}</td><td class="n">{m.auc:.2f} '
        f"[{m.low:.2f}, {m.high:.2f}]</td><td>{_bar(m)}</td>"
        f'<td class="n">{share}</td><td class="{_CLASSES[m.level]}">{_TEXTS[m.level]}</td></tr>'
    )


def _bar(m: Measure) -> str:
    colour = {"none": "#2b6cb0", "look": "#9a6700", "shortcut": "#b3261e"}[m.level]
    at = [200 * min(max(2 * v - 1, 0.0), 1.0) for v in (m.low, m.auc, m.high)]
    return (
        f'<svg viewBox="0 0 200 16" preserveAspectRatio="none" role="img" '
        f'aria-label="{m.auc:.2f}"><rect width="200" height="16" fill="#eef1f4"/>'
        f'<rect x="{at[0]:.1f}" y="5" width="{max(at[2] - at[0], 1):.1f}" height="6" '
        f'fill="{colour}" opacity="0.45"/><rect x="{at[1] - 1.5:.1f}" width="3" height="16" '
        f'fill="{colour}"/></svg>'
    )


def _grid_note(audit: Audit) -> str:
    cells, low, high = audit.evidence.cells, audit.evidence.cells_low, audit.evidence.cells_high
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return (
        f"Best: row {row + 1}, column {column + 1} with {cells[row, column]:.2f} "
        f"[{low[row, column]:.2f}, {high[row, column]:.2f}]. Colours from 0.5 to 1."
    )


def _grid_picture(cells: Grey) -> str:
    """Return the grid with its numbers written in."""
    from PIL import Image, ImageDraw, ImageFont

    side = 68
    colours = _coloured(np.clip(2 * cells - 1, 0, 1))
    picture = Image.fromarray(np.kron(colours, np.ones((side, side, 1), np.uint8)))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(22)
    for (row, column), value in np.ndenumerate(cells):
        ink = "black" if value > 0.85 else "white"
        centre = ((column + 0.5) * side, (row + 0.5) * side)
        draw.text(centre, f"{value:.2f}"[1:] if value < 1 else "1.0", ink, font, anchor="mm")
    return _png(np.asarray(picture))


def _means(audit: Audit) -> str:
    shown = []
    means = audit.class_means
    ends = float(means.min()), float(means.max())
    factor = 200 / max(audit.scale.size)
    size = (round(audit.scale.size[0] * factor), round(audit.scale.size[1] * factor))
    for name, mean in list(zip(audit.source.classes, means, strict=True))[:_MOST_MEANS]:
        source = _png(_fit(_rgb(mean, ends), size))
        text = html.escape(name)
        shown.append(
            f'<figure><img src="{source}" alt="mean of {text}"><figcaption>mean of {text}'
            "</figcaption></figure>"
        )
    return "".join(shown)


def _network(audit: Audit, network: Network) -> str:
    s = network.search
    low, high = s.j_net_interval
    parts = [
        "<section><h2>What a short training looks at</h2>",
        f'<p id="j-net"><b>J_net {s.j_net:.2f}</b> [{low:.2f}, {high:.2f}]: from 0.3 on there is a '
        "shortcut. It is 1 where the answer is right and the same in all slices of a volume "
        "(in 2-D: where it hangs on a place whose content is constant within a class), as of a "
        f"device, and near 0 where it varies as lesions do. {_MOVING[bool(s.marks)]}"
        f"AUC of the short training {s.auc:.2f}, {s.rounds} "
        f"{'round' if s.rounds == 1 else 'rounds'}.{_left(audit, s)}</p>",
    ]
    if s.places:
        parts += ["<h3>Places</h3>", _places(network)]
    if s.marks:
        parts += ["<h3>Marks that move</h3>", _moving(audit, s.marks)]
    if network.clusters:
        parts += ["<h3>Clusters of maps</h3>", _clusters(audit, network.clusters)]
    return "".join([*parts, "</section>"])


def _left(audit: Audit, search: Search) -> str:
    """Return a sentence on what a short training still has after what is recommended."""
    if not (audit.scale.volumes and search.kind in ("place", "texture")):
        return ""
    seen = "" if search.neutral is None else f" on images with {html.escape(search.neutral.name)}"
    return (
        f' <b id="left">Left: {search.left:.2f}</b>, J_net of another short training with what is '
        f"recommended here{seen}. From 0.3 on, it may not take all of it away."
    )


def _moving(audit: Audit, marks: Sequence[MovingMark]) -> str:
    cards = []
    for number, mark in enumerate(marks, 1):
        shown = []
        for form in mark.forms:
            template = _rgb(form.template.permute(1, 2, 0).numpy())
            outlined = _outlined(template, form.mask.numpy())
            shown += [_fit(template, outlined.shape[:2]), outlined]
        cards.append(
            f'<figure><img src="{_png(np.hstack(shown))}" alt="mark {number}"><figcaption>'
            f"<b>mark {number}</b>, in class {html.escape(audit.source.classes[mark.label])}<br>"
            f"J {mark.j:.2f}; the distance to the best match alone AUC {mark.auc:.2f}, constancy "
            f"{mark.constancy:.2f}. The outlined pixels are the same in all of them, wherever "
            "they lie.</figcaption></figure>"
        )
    return f'<div class="places" id="marks">{"".join(cards)}</div>'


def _places(network: Network) -> str:
    cards = []
    for number, (place, effect) in enumerate(
        zip(network.search.places, network.effects, strict=True), 1
    ):
        picture = _png(_larger(_outlined(_rgb(network.mean_image), place.mask), 260))
        mark = "accepted: an artefact" if place.accepted else "not accepted"
        kind = "shortcut" if place.accepted else ""
        cards.append(
            f'<figure><img src="{picture}" alt="place {number} on the mean image"><figcaption>'
            f'<b>place {number}</b>, <span class="{kind}">{mark}</span><br>J {place.j:.2f}, '
            f"{place.share:.1%} of the image, its content alone AUC {place.auc:.2f}, constancy "
            f"{place.icc:.2f}.<br>AUC of the network {effect['clean']:.2f}; with the content of "
            f"another class there {effect['other']:.2f}, of the same class {effect['same']:.2f}."
            "</figcaption></figure>"
        )
    return f'<div class="places" id="places">{"".join(cards)}</div>'


def _clusters(audit: Audit, clusters: Iterable[Cluster]) -> str:
    parts = [
        "<p>Validation images of a class, grouped by where the network looks. Above: the image, "
        "below: the map over it. Is it an electrode, a letter, a border? Then set "
        "<code>accepted: true</code> for it in decision.yaml.</p>"
    ]
    for number, c in enumerate(list(clusters)[:_MOST_CLUSTERS], 1):
        name = html.escape(audit.source.classes[c.label])
        files_ = html.escape(", ".join(c.names))
        parts.append(
            f"<h3>cluster {number}: {name}, {c.count} of {c.asked} images, "
            f'{c.edge_share:.0%} of the map at the border</h3><div class="sheet">'
            f'<img src="{_sheet(c)}" alt="images and maps of cluster {number}">'
            f'<p class="quiet">{files_}</p></div>'
        )
    return "".join(parts)


def _sheet(cluster: Cluster) -> str:
    """Return images above, maps over them below, and the mean map at the left."""
    height, width = cluster.images.shape[1:3]
    factor = _SIDE / max(height, width)
    size = (max(8, round(height * factor)), max(8, round(width * factor)))
    mean = np.kron(cluster.mean, np.ones((8, 8)))
    columns = [np.concatenate([_fit(_coloured(mean), size), _blank(size)])]
    for image, saliency in zip(cluster.images, cluster.maps, strict=True):
        grey = _rgb(image)
        dim = (_rgb(image.mean(-1, keepdims=True)) * 0.55).astype(np.uint8)
        heat = saliency[..., None] ** 0.7
        over = ((1 - heat) * dim + heat * _coloured(0.35 + 0.65 * saliency)).astype(np.uint8)
        columns.append(np.concatenate([_fit(grey, size), _fit(over, size)]))
    gap = np.full((2 * size[0], _GAP, 3), 255, np.uint8)
    return _jpeg(np.concatenate([part for c in columns for part in (c, gap)][:-1], axis=1))


def _blank(size: tuple[int, int]) -> Grey:
    return np.full((*size, 3), 255, np.uint8)


def _outlined(image: Grey, mask: Grey) -> Grey:
    """Return the image with a place's outline and a tint of it."""
    factor = max(1, round(260 / max(mask.shape)))
    large = np.kron(image, np.ones((factor, factor, 1), np.uint8))
    inside = np.kron(mask.astype(np.uint8), np.ones((factor, factor), np.uint8)).astype(bool)
    core = inside.copy()
    for axis in (0, 1):
        for step in (-1, 1, -2, 2):
            core &= np.roll(inside, step, axis)
    tinted = large.astype(float)
    tinted[inside] = 0.75 * tinted[inside] + 0.25 * np.array([255, 120, 0])
    tinted[inside & ~core] = (255, 120, 0)
    return tinted.astype(np.uint8)


def _rgb(image: Grey, ends: tuple[float, float] | None = None) -> Grey:
    """Return `(H, W, C)` of 0 to 1 as RGB; grey is stretched to `ends`, or its own range."""
    if image.shape[-1] == 3:
        return (np.clip(image, 0, 1) * 255).astype(np.uint8)
    low, high = ends or (float(image.min()), float(image.max()))
    grey = (image[..., 0] - low) / max(high - low, 1e-6)
    return np.repeat((np.clip(grey, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


def _coloured(values: Grey) -> Grey:
    """Return `(H, W)` of 0 to 1 in a scale from black over red to pale yellow."""
    from matplotlib import colormaps

    found: Grey = (colormaps["inferno"](np.clip(values, 0, 1))[..., :3] * 255).astype(np.uint8)
    return found


def _larger(image: Grey, side: int) -> Grey:
    factor = side / max(image.shape[:2])
    return _fit(image, (round(image.shape[0] * factor), round(image.shape[1] * factor)))


def _fit(image: Grey, size: tuple[int, int]) -> Grey:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _png(image: Grey) -> str:
    return _encoded(image, "PNG")


def _jpeg(image: Grey) -> str:
    return _encoded(image, "JPEG")


def _encoded(image: Grey, kind: str) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, kind, quality=85, optimize=True)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def _warnings(texts: Iterable[str]) -> str:
    items = _list(texts)
    return f'<section class="warnings"><h2>Mind</h2>{items}</section>' if items else ""


def _part(name: str) -> str:
    return (files("ppi_med.audit") / name).read_text(encoding="utf-8").strip()
