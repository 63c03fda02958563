"""The command line of the conversion: `python data_prep/convert_oct.py --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from ppi_med.data.oct.convert import convert_folder
from ppi_med.data.oct.options import ConvertOptions, ReadOptions, SplitOptions
from ppi_med.data.oct.registry import READERS
from ppi_med.errors import SYSTEM_ERRORS, plain_words

_EPILOG = """\
formats: {formats}

What a file does not say stays unknown in the manifest, unless an option or the table of labels
says it; the column `provenance` says which. A source that cannot be read is reported by name and
the rest goes on. The same command again does only what is missing.

exit code: 0 success, 1 something failed or nothing was found, 2 wrong usage or an output that
cannot be written (read-only, full, in use by another conversion), 130 stopped.

example:
  python data_prep/convert_oct.py --source scans --output dataset --labels scans/labels.csv \\
      --spacing 0.0067,0.0045,0.067 --pad-width 1000 --expect-slices 100
"""


def main(argv: Sequence[str] | None = None, prog: str = "convert_oct.py") -> int:
    """Run the conversion and print its report.

    Args:
        argv: arguments; default those of the process.
        prog: name of the command, for its messages.

    Returns:
        The exit code.
    """
    parser = _parser(prog)
    try:
        report = convert_folder(ConvertOptions.of(**vars(parser.parse_args(argv))))
    except (ValueError, *SYSTEM_ERRORS) as error:
        print(f"{parser.prog}: {plain_words(error)}", file=sys.stderr)
        return 2
    print(report.table())
    if report.count("ok", "kept") and not report.interrupted:
        print(
            f"written to {report.output}: volumes, manifest.csv, datalist.json and "
            "conversion_report.json."
        )
        print(f"next: ppi-med audit {report.output} --output runs/audit")
    return report.exit_code


def _parser(prog: str) -> argparse.ArgumentParser:
    formats = "; ".join(
        f"{entry.what} ({' '.join(entry.suffixes)})" for entry in READERS.values() if entry.suffixes
    )
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Convert OCT files of many vendors to NIfTI, with manifest, datalist and "
        "splits.",
        epilog=_EPILOG.format(formats=formats),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, help="folder with the files, or one file")
    parser.add_argument("--output", required=True, help="folder of the data set")
    groups: dict[str, Any] = {}
    for item in (*fields(ConvertOptions), *fields(ReadOptions), *fields(SplitOptions)):
        if item.metadata:
            heading = item.metadata["group"]
            if heading not in groups:
                groups[heading] = parser.add_argument_group(heading)
            _add(groups[heading], item)
    return parser


def _add(group: Any, item: Field[Any]) -> None:
    """Add the argument of one field."""
    about = item.metadata
    flag = f"--{item.name.replace('_', '-')}"
    if item.default is False:
        group.add_argument(flag, action="store_true", help=about["text"])
    elif item.default is True:  # the only one is switched off by --quiet
        group.add_argument("--quiet", dest=item.name, action="store_false", help=about["text"])
    else:
        kind = {} if about["parse"] is None else {"type": _checked(about["parse"])}
        group.add_argument(
            flag,
            default=item.default,
            metavar=about["metavar"],
            choices=about["choices"],
            help=about["text"],
            **kind,
        )


def _checked(kind: Any) -> Any:
    """Make argparse print the sentence of a ValueError instead of the function's name."""

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
