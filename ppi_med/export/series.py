"""A network's map and weak segmentation in the volume of a CT series, around given points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppi_med.data.dicom.volume import DicomVolume
from ppi_med.data.manifest import real_number, whole_number
from ppi_med.data.spreadsheet import read_sheet
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.export.source import Source
from ppi_med.segmentation.grid import (
    Method,
    NetworkGrid,
    Window,
    normalised_ct,
    positive_score,
)
from ppi_med.segmentation.masking import MaskRule, map_to_mask
from ppi_med.training.modes import evaluating


@dataclass(frozen=True)
class Point:
    """A point to look at: a pixel of a slice.

    Attributes:
        slice: index along the series' normal, from 0.
        row: row of the middle.
        column: column of the middle.
    """

    slice: int
    row: int
    column: int


@dataclass(frozen=True)
class SeriesAnswer:
    """A network's answer about points of a series.

    Attributes:
        map: float32 `(slices, rows, columns)`, 0 outside the windows.
        mask: bool of the same shape.
        logits: one per point.
    """

    map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    logits: NDArray[np.float64]


def explain_series(
    network: nn.Module,
    method: Method,
    source: Source,
    points: Sequence[Point],
    grid: NetworkGrid,
    rule: MaskRule,
    *,
    normalise: Callable[[Tensor], Tensor] = normalised_ct,
    positive: int = 1,
) -> SeriesAnswer:
    """Return the map and the mask around each point, in the series' volume.

    Where windows overlap, the stronger value of the maps is kept and the masks are joined.

    Args:
        network: images `(N, 1, size, size)` to logits.
        method: saliency by `method(network, image, target)`.
        source: the series.
        points: the points to look at.
        grid: grid of the network's images; needs `field_mm`.
        rule: from map to mask, chosen on validation cases.
        normalise: from HU to the network's values.
        positive: the class to explain.

    Raises:
        UsageError: for a point outside the series, no points, or a grid without a field in mm.
    """
    if not points or grid.field_mm is None:
        raise UsageError(
            f"Got {len(points)} points and field_mm={grid.field_mm}, expected at least one point "
            "and the side in mm of what the network sees."
        )
    found = np.zeros(source.shape, np.float32)
    mask = np.zeros(source.shape, bool)
    logits = []
    score = positive_score(positive)
    with evaluating(network):
        for point in points:
            hu, window = _slice_at(source.volume, point), _window(source, point, grid.field_mm)
            patch = normalise(torch.from_numpy(hu)[None])
            image = grid.image(patch, source.spacing_mm, window)[None]
            with torch.no_grad():
                logits.append(float(score(network(image))[0]))
            values = method(network, image, score).detach()[0].sum(0, keepdim=True).double()
            own = grid.back(values, (hu.shape[0], hu.shape[1]), source.spacing_mm, window)
            picture = (np.clip(window.cut(hu), -1000, 400) + 1000) / 1400
            drawn = map_to_mask(own[0].numpy(), rule, spacing_mm=source.spacing_mm, image=picture)
            _put(found[point.slice], own[0].numpy().astype(np.float32), window, _stronger)
            _put(mask[point.slice], drawn, window, np.logical_or)
    return SeriesAnswer(found, mask, np.array(logits))


def read_points(path: str | Path, source: Source) -> list[Point]:
    """Read points from a CSV with the columns `row`, `column` and `slice` or `z_mm`.

    Args:
        path: path of the table, as a spreadsheet may write it.
        source: the series; z, in mm of DICOM's coordinates, is that of the point itself and is
            matched to the nearest slice, within half a step.

    Raises:
        MissingFileError: if there is no such file.
        UsageError: for a missing column, a value that is not a number, or a z without a slice.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"There is no {path}, expected a CSV with slice or z_mm, row, column."
        )
    sheet = read_sheet(path, {"row"})
    rows = ((line, dict(zip(sheet.columns, cells, strict=True))) for line, cells in sheet.rows)
    return [_point(row, line, path.name, source) for line, row in rows]


def _point(row: dict[str, str], number: int, name: str, source: Source) -> Point:
    try:
        place = whole_number(row["row"]), whole_number(row["column"])
        if row.get("slice"):
            return _checked(Point(whole_number(row["slice"]), *place), source)
        height = real_number(row["z_mm"])
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise UsageError(f"{name}, line {number}: {error}") from error
        raise UsageError(
            f"{name}, line {number}: expected whole numbers row, column and slice, or z_mm "
            f"({error})."
        ) from error
    return _checked(
        Point(_slice_at_height(height, place, f"{name}, line {number}", source), *place), source
    )


def _slice_at_height(height: float, place: tuple[int, int], where: str, source: Source) -> int:
    """Return the slice whose pixel at a place has a z; oblique slices have many."""
    along_column, along_row, step, first = source.volume.affine[2].tolist()
    if abs(step) < source.step_mm / 2:
        raise UsageError(f"{where}: the slices do not follow z, expected the column slice.")
    start = first + along_column * place[1] + along_row * place[0]
    nearest = int(round((height - start) / step))
    last = source.shape[0] - 1
    if not 0 <= nearest <= last:
        low, high = sorted((start, start + step * last))
        raise UsageError(
            f"{where}: no slice at z={height:g} mm, the series goes from {low:g} to {high:g} mm."
        )
    return nearest


def _checked(point: Point, source: Source) -> Point:
    place = (point.slice, point.row, point.column)
    if any(not 0 <= at < size for at, size in zip(place, source.shape, strict=True)):
        raise UsageError(
            f"point {place} is outside the series, which has {source.shape} slices, rows and "
            "columns."
        )
    return point


def _slice_at(volume: DicomVolume, point: Point) -> NDArray[np.float32]:
    return np.asarray(volume.values[point.slice], dtype=np.float32)


def _window(source: Source, point: Point, field_mm: float) -> Window:
    """Return the window around a point, clipped to the slice."""
    _checked(point, source)
    rows, columns = source.shape[1:]
    side = min(rows, columns, max(1, round(field_mm / max(source.spacing_mm))))
    start = (
        min(max(0, point.row - side // 2), rows - side),
        min(max(0, point.column - side // 2), columns - side),
    )
    return Window(start, side, (float(point.row), float(point.column)))


def _put(
    whole: NDArray[Any],
    part: NDArray[Any],
    window: Window,
    join: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]],
) -> None:
    there = window.cut(whole)
    there[...] = join(there, part)


def _stronger(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.abs(other) > np.abs(one), other, one)
