"""DICOM SEG and parametric map of a series, by highdicom (extra `dicom`)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med import __version__
from ppi_med.errors import UsageError
from ppi_med.export.source import Source
from ppi_med.io import atomic_path

MAKER = "ppi_med"
# Lung nodule, in SNOMED CT; the dictionary of pydicom does not have it.
_LUNG_NODULE = ("427359005", "SCT", "Lung nodule")


def write_segmentation(
    path: str | Path,
    mask: NDArray[np.bool_],
    source: Source,
    *,
    label: str = "Lung nodule, from the map of a classifier",
    algorithm: str = "Weak segmentation",
    series_number: int = 9001,
) -> Path:
    """Write a mask as a DICOM SEG that refers to the series' slices.

    Every slice has its frame, empty or not, so that the geometry is that of the series. Patient
    and study are those of the series, as a viewer needs them: the file is as identified as it is.

    Args:
        path: of the file.
        mask: ``(slices, rows, columns)``.
        source: the series.
        label: of the segment, at most 64 characters.
        algorithm: by which it was made.
        series_number: of the new series.

    Returns:
        The path.

    Raises:
        ValueError: for a mask of another shape or type.
        UsageError: without highdicom.
    """
    source.check(mask, "mask")
    if mask.dtype != bool:
        raise ValueError(f"the mask is {mask.dtype}, expected bool: set a threshold first.")
    hd, codes = _highdicom()
    coding = import_module("pydicom.sr.coding")
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=label[:64],
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=coding.Code(*_LUNG_NODULE),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(hd, codes, algorithm),
        tracking_uid=hd.UID(),
        tracking_id=f"{MAKER} segment 1",
    )
    made = hd.seg.Segmentation(
        source_images=list(source.datasets),
        pixel_array=mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        omit_empty_frames=False,
        content_label="WEAK_SEG",
        content_description=label[:64],
        series_description=f"{algorithm}: mask"[:64],
        **_origin(hd, series_number),
    )
    return _save(made, path)


def write_parametric_map(
    path: str | Path,
    values: NDArray[Any],
    source: Source,
    *,
    method: str = "Weight Back Propagation",
    series_number: int = 9002,
) -> Path:
    """Write a map as a DICOM parametric map of 32-bit floats that refers to the series' slices.

    Args:
        path: of the file.
        values: ``(slices, rows, columns)``, without unit; signed.
        source: the series.
        method: of the map, for its description.
        series_number: of the new series.

    Returns:
        The path.

    Raises:
        ValueError: for a map of another shape, or with values that are no numbers.
        UsageError: without highdicom.
    """
    source.check(values, "map")
    if not np.isfinite(values).all():
        raise ValueError("the map has values that are no numbers: a viewer could not show it.")
    hd, codes = _highdicom()
    pixels = values.astype(np.float32)
    strongest = float(np.abs(pixels).max()) or 1.0
    meaning = hd.pm.RealWorldValueMapping(
        lut_label="RELEVANCE",
        lut_explanation=f"Relevance by {method}"[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(-strongest, strongest),
        slope=1.0,
        intercept=0.0,
    )
    made = hd.pm.ParametricMap(
        source_images=list(source.datasets),
        pixel_array=pixels,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[
            hd.VOILUTTransformation(window_center=0.0, window_width=2 * strongest)
        ],
        content_label="RELEVANCE",
        content_description=f"Relevance by {method}"[:64],
        series_description=f"{method}: map"[:64],
        **_origin(hd, series_number),
    )
    _set_body_part(made, source)
    return _save(made, path)


def _origin(hd: Any, series_number: int) -> dict[str, Any]:
    return {
        "series_instance_uid": hd.UID(),
        "series_number": series_number,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": __version__,
        "device_serial_number": "1",
    }


def _set_body_part(made: Any, source: Source) -> None:
    """Say which part of the body it is: a general series must, or leave the side open."""
    part = source.datasets[0].get("BodyPartExamined")
    if part:
        made.BodyPartExamined = part
    else:
        made.Laterality = ""


def _algorithm(hd: Any, codes: Any, name: str) -> Any:
    return hd.AlgorithmIdentificationSequence(
        name=name[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
    )


def _save(made: Any, path: str | Path) -> Path:
    with atomic_path(path) as temporary:
        made.save_as(temporary)
    return Path(path)


def _highdicom() -> tuple[Any, Any]:
    try:
        import highdicom
        from highdicom import pm, seg  # noqa: F401 - submodules, reached through the package
    except ImportError as error:
        raise UsageError(
            "DICOM SEG and parametric maps need highdicom: pip install 'ppi_med[dicom]'."
        ) from error
    from pydicom.sr.codedict import codes

    return highdicom, codes
