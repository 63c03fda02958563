"""An extraction as a component of a bundle: built without doing anything, run once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ppi_med.data.lidc.extract import extract_patches
from ppi_med.data.lidc.extraction import Extraction
from ppi_med.data.lidc.options import PatchOptions
from ppi_med.errors import SYSTEM_ERRORS, plain_words


class ExtractionJob:
    """Holds the arguments of `extract_patches` until it is run.

    Args:
        dicom_root: a tree with series of LIDC-IDRI.
        output: the data set's folder.
        options: fields of `PatchOptions`; checked at once.
        fractions: of the patients, for training, validation and test.
        arguments: further ones of `extract_patches`.

    Attributes:
        result: what was done, None before.

    Raises:
        ValueError: for options that make no sense.

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
        **arguments: Any,
    ) -> None:
        self.dicom_root, self.output = dicom_root, output
        self.options = PatchOptions(**(options or {}))
        self.arguments = {**arguments, "fractions": tuple(fractions)}
        self.result: Extraction | None = None

    def run(self) -> Extraction:
        """Extract, print the outcome and return it.

        Raises:
            SystemExit: 2, after one line on what the user or the machine can put right: a root
                that is missing, an output of another tree or run, a disk that is full or damaged.
        """
        try:
            self.result = extract_patches(
                self.dicom_root, self.output, options=self.options, **self.arguments
            )
        except (ValueError, ImportError, *SYSTEM_ERRORS) as error:
            print(f"lidc_patches: {plain_words(error)}", file=sys.stderr)
            raise SystemExit(2) from error
        print(self.result.text())
        return self.result

    @property
    def exit_code(self) -> int:
        """That of the result; 1 before there is one."""
        return 1 if self.result is None else self.result.exit_code
