"""DICOM SEG and parametric map of a series, by highdicom (extra `dicom`).

highdicom gets slices that hold only the series' geometry. Patient, study and the references to its
files are then filled in as the series states them, undecoded: no value of a patient's header can
make an export fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med import __version__
from ppi_med.data.dicom.pixels import quiet
from ppi_med.errors import UsageError
from ppi_med.export.arrays import as_map, as_mask
from ppi_med.export.source import MAY_BE_EMPTY, SliceReference, Source
from ppi_med.io import atomic_path

MAKER = "ppi_med"
# Lung nodule, in SNOMED CT; the dictionary of pydicom does not have it.
_LUNG_NODULE = ("427359005", "SCT", "Lung nodule")
# Widest window: dciodvfy, and viewers that read it as a whole number of 32 bits, take no more.
_WIDEST = 2.0e9
# BodyPartExamined to pydicom's names of SNOMED CT's concepts.
_REGIONS = {
    "ABDOMEN": "Abdomen",
    "ABDOMENPELVIS": "AbdomenAndPelvis",
    "BRAIN": "Brain",
    "BREAST": "Breast",
    "CHEST": "Thorax",
    "CHESTABDPELVIS": "ChestAbdomenAndPelvis",
    "CHESTABDOMEN": "ChestAndAbdomen",
    "EYE": "Eye",
    "HEAD": "Head",
    "HEADNECK": "HeadAndNeck",
    "HEART": "Heart",
    "KIDNEY": "Kidney",
    "LIVER": "Liver",
    "LUNG": "Lung",
    "NECK": "Neck",
    "PELVIS": "Pelvis",
    "SPINE": "Spine",
    "THORAX": "Thorax",
}


def segmentation(
    mask: NDArray[Any],
    source: Source,
    *,
    label: str = "Lung nodule, from the map of a classifier",
    algorithm: str = "Weak segmentation",
    series_number: int = 9001,
) -> Any:
    """Return a mask as a DICOM SEG that refers to the series' slices; `save` writes it.

    Every slice has its frame, empty or not, ascending along the normal, so that the geometry is
    that of the series. Patient and study are those of the series, as a viewer needs them: the file
    identifies the patient as much as the series does.

    Args:
        mask: `(slices, rows, columns)`, bool, or numbers that are only 0 and 1.
        source: the series.
        label: label of the segment, ASCII, at most 64 characters.
        algorithm: name of the algorithm, ASCII.
        series_number: number of the new series.

    Raises:
        ValueError: for a mask of another shape or with other values, or a text that is not ASCII.
        UsageError: without highdicom.
    """
    mask = as_mask(mask, source)
    hd, codes = _highdicom()
    coding = import_module("pydicom.sr.coding")
    label, algorithm = _short(label, "label"), _short(algorithm, "algorithm")
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=label,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=coding.Code(*_LUNG_NODULE),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(hd, codes, algorithm),
        tracking_uid=hd.UID(),
        tracking_id=f"{MAKER} segment 1",
    )
    templates = _templates(hd, source, source.slices)
    with quiet():
        made = hd.seg.Segmentation(
            source_images=templates,
            pixel_array=mask.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[description],
            omit_empty_frames=False,
            content_label="WEAK_SEG",
            content_description=label,
            series_description=_short(f"{algorithm}: mask", "algorithm"),
            **_origin(hd, series_number),
        )
    bits = np.packbits(mask.ravel(), bitorder="little").tobytes()
    made.PixelData = bits + b"\0" * (len(bits) % 2)
    return _finished(made, templates, source, source.slices)


def parametric_map(
    values: NDArray[Any],
    source: Source,
    *,
    method: str = "Weight Back Propagation",
    series_number: int = 9002,
) -> Any:
    """Return a map as a DICOM parametric map of 32-bit floats; `save` writes it.

    It refers to the series' slices. The frames go from one slice before the first whose map is not
    0 to one after the last, ascending along the normal; other empty slices are left out.

    Args:
        values: `(slices, rows, columns)`, without unit; signed.
        source: the series.
        method: method of the map, for its description, ASCII.
        series_number: number of the new series.

    Raises:
        ValueError: for a map of another shape or type, with values that are not finite in 32 bits,
            or a text that is not ASCII.
        UsageError: without highdicom.
    """
    values = as_map(values, source)
    hd, codes = _highdicom()
    strongest = float(np.abs(values).max()) or 1.0
    explanation = _short(f"Relevance by {method}", "method")
    meaning = hd.pm.RealWorldValueMapping(
        lut_label="RELEVANCE",
        lut_explanation=explanation,
        unit=codes.UCUM.NoUnits,
        value_range=(-strongest, strongest),
        slope=1.0,
        intercept=0.0,
    )
    # Exactly linear: the other functions subtract 1 from the width, which does not apply to maps.
    window = hd.VOILUTTransformation(
        window_center=0.0,
        window_width=min(2 * strongest, _WIDEST),
        voi_lut_function="LINEAR_EXACT",
    )
    kept = _with_content(values)
    slices, pixels = source.slices[kept], np.ascontiguousarray(values[kept])
    templates = _templates(hd, source, slices)
    with quiet():
        made = hd.pm.ParametricMap(
            source_images=templates,
            pixel_array=pixels,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[meaning],
            voi_lut_transformations=[window],
            content_label="RELEVANCE",
            content_description=explanation,
            series_description=_short(f"{method}: map", "method"),
            **_origin(hd, series_number),
        )
    made.FloatPixelData = pixels.astype("<f4").tobytes()
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy(codes, source)]
    return _finished(made, templates, source, slices)


def _with_content(values: NDArray[Any]) -> slice:
    """Return the slices from the first to the last that is not empty, and one more on each side.

    With an empty slice on each side every reader finds the step between slices, and a viewer shows
    where the map ends.
    """
    found = np.flatnonzero(values.any(axis=(1, 2)))
    first, last = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
    return slice(max(0, first - 1), last + 2)


def _short(text: str, what: str) -> str:
    """Refuse text that the series' character set may lack; DICOM's labels hold 64 characters."""
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        raise ValueError(
            f"the {what} is {text!r}, expected printable ASCII without a backslash: the series may "
            "allow nothing else."
        )
    return text[:64]


def _templates(hd: Any, source: Source, slices: Sequence[SliceReference]) -> list[Any]:
    """Return slices as highdicom needs them: the geometry, and nothing about the patient."""
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage

    study, series, frame = hd.UID(), hd.UID(), hd.UID()
    made = []
    for one in slices:
        item = Dataset()
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, hd.UID()
        item.StudyInstanceUID, item.SeriesInstanceUID = study, series
        item.FrameOfReferenceUID, item.PositionReferenceIndicator = frame, ""
        for keyword in MAY_BE_EMPTY:
            setattr(item, keyword, "")
        _, item.Rows, item.Columns = source.shape
        item.ImagePositionPatient = decimals(one.place.position)
        item.ImageOrientationPatient = decimals(one.place.orientation)
        item.PixelSpacing = decimals(one.place.spacing)
        item.SliceThickness = decimals([source.thickness_mm])
        item.SpacingBetweenSlices = decimals([source.step_mm])
        made.append(item)
    return made


def decimals(values: Sequence[float] | None) -> list[str]:
    """Return numbers as DICOM's decimal strings, of at most 16 characters.

    Examples:
        >>> decimals([0.703125, -1 / 3])
        ['0.703125', '-0.3333333333333']
    """
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value)) for value in values or ()]


def _finished(
    made: Any, templates: Sequence[Any], source: Source, slices: Sequence[SliceReference]
) -> Any:
    """Order the frames, add references to the series' slices, and the patient."""
    places = {item.SOPInstanceUID: place for place, item in enumerate(templates)}
    frames: list[Any] = [None] * len(slices)
    for frame in made.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = places[image.ReferencedSOPInstanceUID]
        _refer(image, slices[place])
        # Ascending: highdicom sorts from the last slice to the first, and other readers of maps use
        # the frames' order as the volume's.
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [*_listed(content.DimensionIndexValues)[:-1], place + 1]
        frames[place] = frame
    made.PerFrameFunctionalGroupsSequence = frames
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = instances(slices)
    if "SourceImageSequence" in made:
        made.SourceImageSequence = instances(slices)
    # Without a creator's name, but with the element: DICOM's type 2.
    made.ContentCreatorName = ""
    with disabled_validation():
        made.ReferencedSeriesSequence[0].SeriesInstanceUID = source.series
    identify(made, source)
    return made


def _listed(value: Any) -> list[int]:
    return list(value) if hasattr(value, "__iter__") else [value]


def _refer(item: Any, one: SliceReference) -> None:
    with disabled_validation():
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.instance
        if one.frame is not None:
            item.ReferencedFrameNumber = one.frame


def instances(slices: Sequence[SliceReference]) -> list[Any]:
    """Return references to the files of slices, each once."""
    from pydicom.dataset import Dataset

    found = []
    for one in {(one.sop_class, one.instance): one for one in slices}.values():
        item = Dataset()
        _refer(item, replace(one, frame=None))
        found.append(item)
    return found


def identify(made: Any, source: Source) -> None:
    """Write patient, study and frame of reference of a series into a data set."""
    for keyword in (*MAY_BE_EMPTY, "SpecificCharacterSet"):
        if keyword in made:
            del made[keyword]
    for tag in source.elements.keys():  # noqa: SIM118 - a data set, whose values decode themselves
        made[tag] = source.elements.get_item(tag)
    with disabled_validation():
        made.StudyInstanceUID = source.study
        made.FrameOfReferenceUID = source.frame_of_reference
    made.PositionReferenceIndicator = made.get("PositionReferenceIndicator") or ""


@contextmanager
def disabled_validation() -> Iterator[None]:
    """Keep the UIDs of the series: other objects refer to it by these."""
    from pydicom.config import disable_value_validation

    with disable_value_validation():
        yield


def _anatomy(codes: Any, source: Source) -> Any:
    """Return the region of the body, which readers of maps require."""
    from pydicom.dataset import Dataset

    part = "".join(c for c in source.body_part.upper() if c.isalpha())
    code = getattr(codes.SCT, _REGIONS.get(part, "EntireBody"))
    region, item = Dataset(), Dataset()
    region.CodeValue, region.CodeMeaning = code.value, code.meaning
    region.CodingSchemeDesignator = code.scheme_designator
    # U: unpaired, the whole region.
    item.FrameLaterality, item.AnatomicRegionSequence = "U", [region]
    return item


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


def _algorithm(hd: Any, codes: Any, name: str) -> Any:
    return hd.AlgorithmIdentificationSequence(
        name=name, version=__version__, family=codes.DCM.ArtificialIntelligence
    )


def save(made: Any, path: str | Path) -> Path:
    """Write a data set, atomically."""
    with atomic_path(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)
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
