"""Slices with their map and mask drawn in, as DICOM secondary captures for any viewer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med import __version__
from ppi_med.export.dicom import MAKER, decimals, identify, instances
from ppi_med.export.source import Source

# The grey scale, in HU: air to bone.
_WINDOW = (-1000.0, 400.0)
_RED, _BLUE, _YELLOW = (np.array(c, np.float32) for c in ((255, 0, 0), (0, 90, 255), (255, 220, 0)))
# Share of a pixel's colour that the strongest value of a map takes.
_OPACITY = 0.6


def captures(
    values: NDArray[np.float32] | None,
    mask: NDArray[np.bool_] | None,
    source: Source,
    *,
    method: str,
    series_number: int = 9003,
) -> Iterator[tuple[int, Any]]:
    """Yield slices whose map or mask is not empty, as colour pictures.

    Red supports the answer, blue speaks against it, the yellow line is the mask's edge. Each
    picture has the position of its slice, so that viewers scroll and link it like the series.

    Args:
        values: the map, checked, or None.
        mask: the mask, checked, or None.
        source: the series.
        method: method of the map, for the description.
        series_number: number of the new series.

    Yields:
        The slice's index from 0, and pydicom's data set.
    """
    from pydicom.uid import generate_uid

    series = generate_uid(prefix=None)
    strongest = 0.0 if values is None else float(np.abs(values).max())
    for index in range(source.shape[0]):
        own = None if values is None or not values[index].any() else values[index]
        drawn = None if mask is None or not mask[index].any() else mask[index]
        if own is not None or drawn is not None:
            picture = overlay(source.volume.values[index], own, drawn, strongest)
            made = _capture(picture, source, index, method)
            made.SeriesInstanceUID, made.SeriesNumber = series, series_number
            yield index, made


def overlay(
    hu: NDArray[Any],
    values: NDArray[np.float32] | None,
    mask: NDArray[np.bool_] | None,
    strongest: float,
) -> NDArray[np.uint8]:
    """Return a slice in grey with its map in red and blue and the mask's edge in yellow.

    Args:
        hu: `(rows, columns)`.
        values: values of the map, same shape, or None.
        mask: same shape, or None.
        strongest: the largest absolute value of the whole map.

    Returns:
        `(rows, columns, 3)`.

    Examples:
        >>> air = np.full((3, 3), -1000.0)
        >>> overlay(air, np.eye(3, dtype=np.float32), None, 1.0)[0, 0]
        array([153,   0,   0], dtype=uint8)
    """
    low, high = _WINDOW
    grey = 255 * (np.clip(hu.astype(np.float32), low, high) - low) / (high - low)
    picture = np.repeat(grey[..., None], 3, axis=-1)
    if values is not None and strongest > 0:
        share = _OPACITY * np.abs(values / np.float32(strongest))[..., None]
        colour = np.where(values[..., None] > 0, _RED, _BLUE)
        picture = (1 - share) * picture + share * colour
    if mask is not None:
        picture[_edge(mask)] = _YELLOW
    return np.rint(picture).astype(np.uint8)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask's pixels that have a neighbour outside it."""
    wide = np.pad(mask, 1)
    inside = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask & ~inside


def _capture(picture: NDArray[np.uint8], source: Source, index: int, method: str) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    one, now = source.slices[index], datetime.now()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = generate_uid(prefix=None)
    made.InstanceNumber = index + 1
    made.Modality, made.ConversionType = "OT", "WSD"
    made.Manufacturer = made.ManufacturerModelName = MAKER
    made.SoftwareVersions = __version__
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.SeriesDescription = f"{method}: overlay"[:64]
    made.DerivationDescription = "Red supports, blue opposes the answer; yellow: edge of the mask"
    made.SourceImageSequence = instances([one])
    made.ContentDate = made.DateOfSecondaryCapture = now.strftime("%Y%m%d")
    made.ContentTime = made.TimeOfSecondaryCapture = now.strftime("%H%M%S")
    made.PatientOrientation = ""
    made.BurnedInAnnotation = "NO"
    made.ImagePositionPatient = decimals(one.place.position)
    made.ImageOrientationPatient = decimals(one.place.orientation)
    made.PixelSpacing = decimals(one.place.spacing)
    made.SliceThickness = decimals([source.thickness_mm])[0]
    made.Rows, made.Columns, made.SamplesPerPixel = *picture.shape[:2], 3
    made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    made.PixelData = pixels + b"\0" * (len(pixels) % 2)
    identify(made, source)
    # Of a paired part of the body, such as the lung, a general series must say the side, of another
    # it must not: a picture leaves both open.
    made.pop("BodyPartExamined", None)
    made.Laterality = ""
    return made
