"""Reading the pixels of a case, with the facts of its header and file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.audit.sources import Case
from ppi_med.errors import UsageError

if TYPE_CHECKING:
    from ppi_med.data.dicom.pixels import Slice

Floats = NDArray[np.float32]
MAX_VALUES = 2**28
_MEMBER = "::"
_EXIF = {271: "maker", 272: "model", 305: "software"}
_DICOM = {
    "Manufacturer": "maker",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "Modality": "modality",
    "ViewPosition": "view_position",
    "SliceThickness": "slice_thickness_mm",
    "BitsStored": "bits",
    "PhotometricInterpretation": "photometric",
    "KVP": "kvp",
    "BodyPartExamined": "body_part",
}
_SAMPLED = 48
_TARGET_2D, _TARGET_3D = 96, 96
_BUDGET = 96_000_000
"""Largest size of all images for a network: 384 MB."""
_POSITIONS = (6, 24)


@dataclass(frozen=True)
class Loaded:
    """A case's pixels.

    Attributes:
        pixels: float32 `(S, H, W, C)`, S = 1 in 2-D, C = 1 or 3.
        header: values of the header, by name.
        file: facts of the file: bytes, type, quality.
    """

    pixels: Floats
    header: dict[str, str | float] = field(default_factory=dict)
    file: dict[str, str | float] = field(default_factory=dict)


def load(case: Case) -> Loaded:
    """Return a case's pixels and the facts of its header and file.

    Raises:
        UsageError: if it cannot be read; the sentence names the case.
    """
    try:
        found = _reader(case)(case)
    except UsageError:
        raise
    except Exception as error:  # broken bytes fail in many ways
        why = "no picture, or a damaged one" if "<_io" in str(error) else error
        raise UsageError(f"{case.name} cannot be read ({why}).") from error
    pixels = found.pixels
    if 0 in pixels.shape or not np.isfinite(pixels).all():
        raise UsageError(f"{case.name} has no pixels, or some that are no numbers.")
    size = {"slices": float(pixels.shape[0])} if pixels.shape[0] > 1 else {}
    size |= {"height": float(pixels.shape[1]), "width": float(pixels.shape[2])}
    size["height : width"] = pixels.shape[1] / pixels.shape[2]
    size["channels"] = float(pixels.shape[3])
    header: dict[str, str | float] = {**case.facts, **found.header, **size}
    if case.site:
        header["site"] = case.site
    return Loaded(pixels, header, found.file)


def _reader(case: Case) -> Callable[[Case], Loaded]:
    name = case.image.lower()
    if case.row is not None:
        return _patch
    if _MEMBER in name:
        return _member
    if name.endswith((".nii", ".nii.gz")):
        return _nifti
    if name.endswith(".npy"):
        return _npy
    with Path(case.image).open("rb") as stream:
        head = stream.read(132)
    if name.endswith((".dcm", ".dicom")) or head[128:132] == b"DICM":
        return _dicom
    return lambda c: _picture(Path(c.image).read_bytes())


def _picture(content: bytes) -> Loaded:
    from PIL import Image, ImageSequence

    with Image.open(io.BytesIO(content)) as picture:
        if picture.width * picture.height * getattr(picture, "n_frames", 1) > MAX_VALUES:
            raise UsageError(f"a picture of {picture.width} x {picture.height} is too large")
        kind, exif = picture.format or "", picture.getexif()
        tables = getattr(picture, "quantization", None)
        header: dict[str, str | float] = {
            name: str(exif[key]).strip() for key, name in _EXIF.items() if exif.get(key)
        }
        frames = [_frame(frame) for frame in ImageSequence.Iterator(picture)]
    pixels = np.stack([f for f in frames if f.shape == frames[0].shape])
    file: dict[str, str | float] = {"file type": kind}
    file["file size by pixel"] = len(content) / pixels[..., 0].size
    if tables:
        file["JPEG quantisation"] = float(np.mean(tables[min(tables)]))
    return Loaded(pixels, header, file)


def _frame(picture: Any) -> Floats:
    if picture.mode.startswith(("I", "F")):
        return np.asarray(picture, np.float32)[..., None]
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"), np.float32)[..., None]
    colour = np.asarray(picture.convert("RGB"), np.float32)
    grey = (colour[..., 0] == colour[..., 1]).all() and (colour[..., 1] == colour[..., 2]).all()
    return colour[..., :1] if grey else colour


def _member(case: Case) -> Loaded:
    path, _, member = case.image.partition(_MEMBER)
    if path.lower().endswith(".zip"):
        from ppi_med.data.photos.pixels import archive

        if archive(path).getinfo(member).file_size > MAX_VALUES:
            raise UsageError(f"{case.name} is too large.")
        return _picture(archive(path).read(member))
    from ppi_med.data.photos.pixels import read_pixels

    return Loaded(read_pixels(case.image).astype(np.float32)[None])


def _nifti(case: Case) -> Loaded:
    import nibabel

    library: Any = nibabel
    image = library.load(case.image)
    shape = tuple(n for n in image.shape if n != 1) or (1,)
    if len(shape) not in (2, 3) or np.prod(shape) > MAX_VALUES:
        raise UsageError(f"{case.name} has the shape {image.shape}, expected two or three axes.")
    stored = np.asarray(image.dataobj, np.float32).reshape(shape)
    pixels = stored.T[None] if len(shape) == 2 else stored.transpose(2, 1, 0)
    header: dict[str, str | float] = {}
    if image.header.get_xyzt_units()[0] == "mm":
        zooms = image.header.get_zooms()
        header = {f"spacing {k} mm": float(f"{z:.5g}") for k, z in zip("xyz", zooms, strict=False)}
    return Loaded(np.ascontiguousarray(pixels)[..., None], header, _file(case, pixels.size))


def _npy(case: Case) -> Loaded:
    stored = np.load(case.image, mmap_mode="r", allow_pickle=False)
    if stored.size > MAX_VALUES or stored.ndim not in (2, 3, 4):
        raise UsageError(f"{case.name} has the shape {stored.shape}, expected 2 to 4 axes.")
    array = np.asarray(stored, np.float32)
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None] if array.shape[-1] in (1, 3) else array[..., None]
    if array.shape[-1] not in (1, 3):
        raise UsageError(f"{case.name} has {array.shape[-1]} channels, expected 1 or 3.")
    return Loaded(array)


def _dicom(case: Case) -> Loaded:
    import pydicom

    from ppi_med.data.dicom.pixels import read_slice
    from ppi_med.data.dicom.pseudonyms import known_or_token
    from ppi_med.data.dicom.tree import DicomFile

    path = Path(case.image)
    data = pydicom.dcmread(path, stop_before_pixels=True)
    frames = int(data.get("NumberOfFrames", 1) or 1)
    shape = (frames, int(data.Rows), int(data.Columns), int(data.get("SamplesPerPixel", 1)))
    if np.prod(shape, dtype=float) > MAX_VALUES:
        raise UsageError(f"{case.name} has {frames} frames of {data.Rows} x {data.Columns}.")
    pixels = np.asarray(_upright(read_slice(path.parent, DicomFile(path.name))), np.float32)
    header: dict[str, str | float] = {
        name: known_or_token(str(data.get(key)))
        for key, name in _DICOM.items()
        if data.get(key) not in (None, "")
    }
    spacing = data.get("PixelSpacing") or data.get("ImagerPixelSpacing")
    if spacing:
        header["spacing mm"] = float(spacing[0])
    return Loaded(pixels.reshape(shape), header, _file(case, pixels.size))


def _upright(found: Slice) -> NDArray[Any]:
    """Return the values, inverted if low values are white, as in viewers."""
    from ppi_med.data.dicom.values import is_ct

    data = found.dataset
    if data.PhotometricInterpretation == "MONOCHROME1" and not is_ct(data):
        top = -1 if data.PixelRepresentation else 2 ** int(data.BitsStored) - 1
        found = replace(found, stored=found.stored.dtype.type(top) - found.stored)
    return found.values()


def _patch(case: Case) -> Loaded:
    if (Path(case.image) / "nodules.csv").is_file():
        from ppi_med.data.lidc.cases import nodules_of

        hu = nodules_of(Path(case.image)).arrays(int(case.row or 0))["hu"]
        return Loaded(_hounsfield(hu))
    arrays, rows = _zarr(case.image, case.group)
    known = rows[int(case.row or 0)] if rows else {}
    names = ("spacing_row_mm", "slice_spacing_mm", "slice_thickness_mm", "kernel", "model")
    header: dict[str, str | float] = {k: str(known[k]) for k in names if known.get(k) is not None}
    return Loaded(_hounsfield(np.asarray(arrays["hu"][int(case.row or 0)])), header)


def _hounsfield(hu: NDArray[Any]) -> Floats:
    """Clip to the range of tissue: padding is not a Hounsfield unit."""
    return np.clip(hu.astype(np.float32), -1000, 400)[None, ..., None]


@lru_cache(maxsize=64)
def _zarr(place: str, group: str) -> tuple[Any, list[dict[str, Any]]]:
    import zarr

    from ppi_med.data.lidc.zarr_store import open_store

    source: Any = zarr.open_group(open_store(place), path=group, mode="r")
    return dict(source.arrays()), list(source.attrs.get("rows", []))


def _file(case: Case, values: int) -> dict[str, str | float]:
    path = Path(case.image)
    size = path.stat().st_size / max(values, 1)
    return {"file type": "".join(path.suffixes[-2:]), "file size by pixel": size}


@dataclass(frozen=True)
class Scale:
    """The common size and range of all images of a data set.

    Attributes:
        size: height and width that a network is shown.
        channels: 1 or 3.
        positions: B-scans or slices taken of a volume, evenly; 1 in 2-D.
        low: value that becomes 0.
        high: value that becomes 1.
        most: largest number of cases for a network.
    """

    size: tuple[int, int]
    channels: int
    positions: int
    low: float
    high: float
    most: int

    @property
    def volumes(self) -> bool:
        """Whether the cases are volumes."""
        return self.positions > 1

    def slices(self, pixels: Floats) -> Floats:
        """Return the positions taken of a volume, scaled: `(S, H, W, C)` of 0 to 1."""
        depth = len(pixels)
        taken = [int((k + 0.5) * depth / self.positions) for k in range(self.positions)]
        chosen = pixels[taken] if depth > 1 or self.volumes else pixels
        values = np.clip((chosen - self.low) / (self.high - self.low), 0, 1)
        return np.repeat(values, 3, -1) if values.shape[-1] < self.channels else values


def scale_of(cases: Sequence[Case], seed: int = 0) -> Scale:
    """Derive the common scale from some cases.

    Raises:
        UsageError: if most of them cannot be read, or images and volumes are mixed.
    """
    drawn = np.random.default_rng(seed).permutation(len(cases))[:_SAMPLED]
    some, problems = [], []
    for index in sorted(drawn):
        try:
            some.append(load(cases[index]).pixels)
        except UsageError as error:
            problems.append(str(error))
    if len(some) <= len(problems):
        raise UsageError(f"{len(problems)} of {len(drawn)} images cannot be read: {problems[0]}")
    depths = [len(p) for p in some]
    if min(depths) == 1 and max(depths) > 1:
        raise UsageError(f"Volumes and single images are mixed ({problems or depths[:8]}).")
    channels = max(p.shape[-1] for p in some)
    values = np.concatenate([p.ravel()[:: max(1, p.size // 20_000)] for p in some])
    low, high = (float(v) for v in np.percentile(values, (0.1, 99.9)))
    if values.min() >= 0 and 1 < values.max() <= 255:
        low, high = 0.0, 255.0
    size = _target([p.shape[1:3] for p in some], _TARGET_3D if min(depths) > 1 else _TARGET_2D)
    image = size[0] * size[1] * channels
    positions = 1
    if min(depths) > 1:
        room = _BUDGET // (image * len(cases))
        positions = min(int(np.median(depths)), max(_POSITIONS[0], min(_POSITIONS[1], room)))
    most = _BUDGET // (image * positions)
    return Scale(size, channels, positions, low, max(high, low + 1e-6), most)


def _target(shapes: Sequence[tuple[int, int]], side: int) -> tuple[int, int]:
    """Return a height and width of the usual proportion, multiples of 8, `side` at most."""
    height, width = (float(n) for n in np.median(np.array(shapes), axis=0))
    factor = min(1.0, side / max(height, width))
    return max(16, round(height * factor / 8) * 8), max(16, round(width * factor / 8) * 8)


def resized(plane: Floats, size: tuple[int, int]) -> Floats:
    """Resample `(H, W, C)` to a size: means over areas if it shrinks, else bilinear."""
    from PIL import Image

    if plane.shape[:2] == size:
        return plane
    shrinks = plane.shape[0] >= size[0] and plane.shape[1] >= size[1]
    way = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    bands = [
        np.asarray(Image.fromarray(np.ascontiguousarray(band)).resize(size[::-1], way))
        for band in np.moveaxis(plane, -1, 0)
    ]
    return np.stack(bands, -1).astype(np.float32)


def read_all(cases: Sequence[Case]) -> Iterator[tuple[int, Loaded | UsageError]]:
    """Yield number and content of each case, or why it cannot be read."""
    for number, case in enumerate(cases):
        try:
            yield number, load(case)
        except UsageError as error:
            yield number, error
