"""The command line of the export: `ppi-med export-dicom --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import SYSTEM_ERRORS, UsageError, plain_words, require_known
from ppi_med.export.arrays import read_map, read_mask
from ppi_med.export.source import Source, read_source
from ppi_med.io import atomic_path, exclusive

SEG, MAP, NIFTI_SEG, NIFTI_MAP = "mask.seg.dcm", "map.pm.dcm", "mask.nii.gz", "map.nii.gz"
OVERLAY = "overlay"

_EPILOG = """\
The series is read strictly: one with gaps, tilt or shared positions is refused. The output has its
geometry and refers to its slices; the DICOM files name its patient, as a viewer needs it. Nothing
is written before all is checked.

Either a trained network looks at points (a CSV with row, column and slice or z_mm):
  ppi-med export-dicom --series /data/ct/patient --points nodules.csv \\
      --bundle bundles/lidc_ppi --rules runs/weak_segmentation/rules.json --output out
or arrays of the series' shape (slices along the normal, rows, columns) are exported as they are:
  ppi-med export-dicom --series /data/ct/patient --map map.npy --mask mask.npy \\
      --output out

exit code: 0 all is written; 2 one line says what to correct, and nothing is written.
"""


def main(argv: Sequence[str] | None = None, prog: str = "export_dicom.py") -> int:
    """Export a map and a mask of a series.

    Args:
        argv: arguments; default those of the process.
        prog: name of the command, for its messages.

    Returns:
        The exit code: 0, or 2 for an error that the user can correct.
    """
    parser = _parser(prog)
    options = parser.parse_args(argv)
    try:
        for path in _export(options):
            print(path)
    except (ValueError, *SYSTEM_ERRORS) as error:
        print(f"{prog}: {plain_words(error)}", file=sys.stderr)
        return 2
    return 0


def write_all(
    folder: str | Path,
    source: Source,
    values: NDArray[Any] | None,
    mask: NDArray[Any] | None,
    *,
    method: str = "Weight Back Propagation",
) -> list[Path]:
    """Write the given map and mask: as DICOM, as NIfTI, and drawn into the slices.

    Everything is made before anything is written; either all files are new or all are unchanged.
    Pictures of an earlier export in the folder are removed.

    Args:
        folder: the folder; it is made if it does not exist.
        source: the series.
        values: the map, or None.
        mask: the mask, or None.
        method: method of the map, for its description.

    Returns:
        The files.

    Raises:
        ValueError: for a wrong map or mask; nothing is written then.
    """
    from ppi_med.export.arrays import as_map, as_mask, nifti_image
    from ppi_med.export.capture import captures
    from ppi_med.export.dicom import parametric_map, segmentation

    folder, made = Path(folder), dict[Path, Any]()
    seen = None if values is None else as_map(values, source)
    drawn = None if mask is None else as_mask(mask, source)
    if seen is not None:
        made[folder / MAP] = parametric_map(seen, source, method=method)
        made[folder / NIFTI_MAP] = nifti_image(seen, source)
    if drawn is not None:
        made[folder / SEG] = segmentation(drawn, source)
        made[folder / NIFTI_SEG] = nifti_image(drawn, source)
    digits = len(str(source.shape[0]))
    for index, picture in captures(seen, drawn, source, method=method):
        made[folder / OVERLAY / f"slice_{index + 1:0{digits}}.dcm"] = picture
    with exclusive(folder, "export"):
        _write_together(made)
        for old in (folder / OVERLAY).glob("slice_*.dcm"):
            if old not in made:
                old.unlink()
    return list(made)


def _write_together(made: dict[Path, Any]) -> None:
    """Write data sets and NIfTI images, and move them to their places when all are written."""
    with ExitStack() as places:
        for path, thing in made.items():
            temporary = places.enter_context(atomic_path(path))
            if path.suffix == ".dcm":
                thing.save_as(temporary, enforce_file_format=True)
            else:
                thing.to_filename(temporary)


def _export(options: argparse.Namespace) -> list[Path]:
    arrays = options.map is not None or options.mask is not None
    if arrays == (options.points is not None):
        raise UsageError("expected either --points, or --map and --mask or one of them.")
    check_output(options.output)
    source = read_source(options.series, options.series_uid, key_file=options.key_file)
    if not arrays:
        return write_all(options.output, source, *_asked(options, source), method=options.method)
    values = None if options.map is None else read_map(options.map, source)
    mask = None if options.mask is None else read_mask(options.mask, source)
    return write_all(options.output, source, values, mask, method=options.method)


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before long work begins.

    Raises:
        UsageError: naming the folder.
    """
    parent = next((path for path in (folder, *folder.parents) if path.exists()), Path("."))
    if not parent.is_dir():
        raise UsageError(f"{parent} is a file, expected a folder for the output.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent} cannot be written to, expected a folder for the output.")


def _asked(
    options: argparse.Namespace, source: Source
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Run the network at the points."""
    from ppi_med.bundle_tools.installed import default_bundle
    from ppi_med.export.series import explain_series, read_points
    from ppi_med.segmentation.network import METHODS, load_network, saliency_methods

    require_known("method", options.method, METHODS)
    points = read_points(options.points, source)
    found = load_network(options.bundle or default_bundle("lidc_ppi"), options.checkpoint)
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
    """Return a study's rule for a method on centred crops; without a study Otsu's."""
    from ppi_med.segmentation.masking import MaskRule

    if path is None:
        return MaskRule(smoothing_mm=1.0)
    try:
        rules = json.loads(Path(path).read_text(encoding="utf-8"))
        for rule in rules:
            if rule["method"] == method and rule["crops"] == "centred" and rule["options"]:
                return MaskRule(**rule["options"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is not a rules.json of a weak segmentation ({error}).") from error
    raise UsageError(f"{path} has no rule for {method} on centred crops: run weak-segmentation.")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write map and weak segmentation of a CT series as DICOM SEG, parametric map, "
        "NIfTI and pictures that any viewer shows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--series", type=Path, required=True, help="folder or zip of the slices")
    parser.add_argument("--series-uid", help="which series, where there are several")
    parser.add_argument(
        "--key-file", type=Path, help="project.key of an index, to name patients as it does"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    arrays = parser.add_argument_group("arrays")
    arrays.add_argument("--map", type=Path, help=".npy or .npz with the map: numbers")
    arrays.add_argument("--mask", type=Path, help=".npy or .npz with the mask: bool, or 0 and 1")
    network = parser.add_argument_group("a network")
    network.add_argument("--points", type=Path, help="CSV: row, column, and slice or z_mm")
    network.add_argument(
        "--bundle", type=Path, help="default bundles/lidc_ppi, or the package's own"
    )
    network.add_argument("--checkpoint", type=Path, help="default the bundle's models/model.pt")
    network.add_argument("--rules", type=Path, help="rules.json of a weak segmentation")
    network.add_argument("--method", default="wbp", help="saliency method (default wbp)")
    return parser
