"""The command line of the export: `python data_prep/export_dicom.py --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import UsageError
from ppi_med.export.source import Source, read_source

SEG, MAP, NIFTI_SEG, NIFTI_MAP = "mask.seg.dcm", "map.pm.dcm", "mask.nii.gz", "map.nii.gz"

_EPILOG = """\
The series is read strictly: gaps, tilt, shared positions refuse it. What comes out has its geometry
and refers to its slices; the DICOM files name its patient, as a viewer needs it.

Either a trained network looks at points (a CSV with row, column and slice or z_mm):
  python data_prep/export_dicom.py --series /data/ct/patient --points nodules.csv \\
      --bundle bundles/lidc_ppi --rules runs/weak_segmentation/rules.json --output out
or arrays of the series' shape (slices along the normal, rows, columns) are exported as they are:
  python data_prep/export_dicom.py --series /data/ct/patient --map map.npy --mask mask.npy \\
      --output out
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Export a map and a mask of a series.

    Args:
        argv: arguments; default those of the process.

    Returns:
        The exit code: 0, or 2 where something that the user can put right is wrong.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        for path in _export(options):
            print(path)
    except (UsageError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def write_all(
    folder: str | Path,
    source: Source,
    values: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    *,
    method: str = "Weight Back Propagation",
) -> list[Path]:
    """Write what is given of map and mask, as DICOM and as NIfTI.

    Args:
        folder: made if it is not there.
        source: the series.
        values: the map, or None.
        mask: the mask, or None.
        method: of the map, for its description.

    Returns:
        The files.
    """
    from ppi_med.export.dicom import write_parametric_map, write_segmentation
    from ppi_med.export.nifti import write_nifti

    folder, written = Path(folder), []
    if values is not None:
        written.append(write_parametric_map(folder / MAP, values, source, method=method))
        written.append(write_nifti(folder / NIFTI_MAP, values, source))
    if mask is not None:
        written.append(write_segmentation(folder / SEG, mask, source))
        written.append(write_nifti(folder / NIFTI_SEG, mask, source))
    return written


def _export(options: argparse.Namespace) -> list[Path]:
    arrays = options.map is not None or options.mask is not None
    if arrays == (options.points is not None):
        raise UsageError("expected either --points, or --map and --mask or one of them.")
    source = read_source(options.series, options.series_uid)
    if not arrays:
        return write_all(options.output, source, *_asked(options, source), method=options.method)
    values = None if options.map is None else _array(options.map, source, "map")
    mask = None if options.mask is None else _array(options.mask, source, "mask").astype(bool)
    return write_all(options.output, source, values, mask, method=options.method)


def _asked(
    options: argparse.Namespace, source: Source
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Have the network look at the points."""
    from ppi_med.export.series import explain_series, read_points
    from ppi_med.segmentation.bundle import load_network
    from ppi_med.segmentation.methods import METHODS, saliency_methods

    if options.method not in METHODS:
        raise UsageError(f"method is {options.method!r}, expected one of {', '.join(METHODS)}.")
    points = read_points(options.points, source)
    found = load_network(options.bundle, options.checkpoint)
    method = saliency_methods(options.method, found.grid.size)[options.method]
    answer = explain_series(
        found.network,
        method,
        source,
        points,
        found.grid,
        _rule(options.rules, options.method),
        normalise=found.normalise,
    )
    for point, logit in zip(points, answer.logits, strict=True):
        place = f"slice {point.slice}, row {point.row}, column {point.column}"
        print(f"{place}: probability {1 / (1 + np.exp(-logit)):.3f}")
    return answer.map, answer.mask


def _rule(path: Path | None, method: str) -> Any:
    """Return the rule that a study chose for a method on centred crops; without a study Otsu's."""
    from ppi_med.segmentation.masking import MaskRule

    if path is None:
        return MaskRule(smoothing_mm=1.0)
    try:
        rules = json.loads(Path(path).read_text(encoding="utf-8"))
        for rule in rules:
            if rule["method"] == method and rule["crops"] == "centred" and rule["options"]:
                return MaskRule(**rule["options"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is no rules.json of a weak segmentation ({error}).") from error
    raise UsageError(f"{path} has no rule for {method} on centred crops: run weak-segmentation.")


def _array(path: Path, source: Source, what: str) -> NDArray[Any]:
    if not path.is_file():
        raise UsageError(f"There is no {path}, expected a .npy file with the {what}.")
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    source.check(values, what)
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="export_dicom.py",
        description="Write map and weak segmentation of a CT series as DICOM SEG, parametric map "
        "and NIfTI.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--series", type=Path, required=True, help="folder or zip of the slices")
    parser.add_argument("--series-uid", help="which series, where there are several")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    arrays = parser.add_argument_group("arrays")
    arrays.add_argument("--map", type=Path, help=".npy with the map")
    arrays.add_argument("--mask", type=Path, help=".npy with the mask")
    network = parser.add_argument_group("a network")
    network.add_argument("--points", type=Path, help="CSV: row, column, and slice or z_mm")
    network.add_argument(
        "--bundle", type=Path, default=Path("bundles/lidc_ppi"), help="default bundles/lidc_ppi"
    )
    network.add_argument("--checkpoint", type=Path, help="default the bundle's models/model.pt")
    network.add_argument("--rules", type=Path, help="rules.json of a weak segmentation")
    network.add_argument("--method", default="wbp", help="saliency method (default wbp)")
    return parser
