"""The command line of the index: `ppi-med index-dicom --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ppi_med.data.dicom.geometry import Tolerances
from ppi_med.data.dicom.index import find_file, index_tree
from ppi_med.data.dicom.verdict import CODES, Policy
from ppi_med.errors import SYSTEM_ERRORS, plain_words

_EPILOG = """\
reasons against a volume:
{codes}

Patients, UIDs and paths are written as pseudonyms, the same in every run with the same project key.
What stands behind one of a file: --find F-....

exit code: 0 success, 1 a series was refused, a file could not be read, or nothing was found,
2 wrong usage, another run on the same output, a disk that is full, read-only or damaged,
130 stopped.

example:
  ppi-med index-dicom --source /data/ct --output index --mode lenient --workers 4
"""


def main(argv: Sequence[str] | None = None, prog: str = "index_dicom.py") -> int:
    """Index a tree and print the summary.

    Args:
        argv: arguments; default those of the process.
        prog: the command's name in messages.

    Returns:
        The exit code.
    """
    parser = _parser(prog)
    options = parser.parse_args(argv)
    try:
        if options.find:
            return _find(options)
        if not options.source:
            parser.error("--source is missing, expected a folder, a .zip or a DICOMDIR.")
        names = [field.name for field in fields(Tolerances)]
        tolerances = Tolerances(**{name: getattr(options, name) for name in names})
        summary = index_tree(
            options.source,
            options.output,
            policy=Policy(options.mode, tuple(options.allow)),
            tolerances=tolerances,
            identified=options.identified,
            key_file=options.key_file,
            table=f"index.{options.format}",
            scheduler=options.scheduler,
            workers=options.workers,
            progress=options.progress,
        )
    except (ValueError, ImportError, *SYSTEM_ERRORS) as error:
        print(f"{parser.prog}: {plain_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    print(summary.text())
    print(f"written to {options.output}: {summary.table.name}, errors.jsonl.")
    return summary.exit_code


def _find(options: argparse.Namespace) -> int:
    name = find_file(options.output, options.find, options.key_file)
    print(name if name is not None else f"{options.find} stands for no file of this index.")
    return int(name is None)


def _parser(prog: str) -> argparse.ArgumentParser:
    codes = "\n".join(f"  {name:<20} {what}" for name, what in CODES.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Index a tree of DICOM files: one row per series, and whether it is a volume.",
        epilog=_EPILOG.format(codes=codes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", help="a folder, a .zip or a DICOMDIR")
    parser.add_argument("--output", required=True, help="folder of the index")
    parser.add_argument("--find", metavar="F-...", help="print the path of a file, and stop")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the table")
    _add_checks(parser.add_argument_group("checks"))
    _add_names(parser.add_argument_group("names"))
    running = parser.add_argument_group("running")
    running.add_argument(
        "--scheduler",
        default="processes",
        help="serial, threads, processes, or a Dask scheduler's address (default processes)",
    )
    running.add_argument("--workers", type=int, metavar="N", help="default one per core")
    running.add_argument("--quiet", dest="progress", action="store_false", help="no progress bar")
    return parser


def _add_checks(group: Any) -> None:
    group.add_argument(
        "--mode",
        choices=("strict", "lenient"),
        default="strict",
        help="lenient keeps a series with harmless faults, with a warning",
    )
    group.add_argument(
        "--allow",
        type=lambda text: [name for name in text.split(",") if name],
        default=[],
        metavar="REASONS",
        help="reasons that are warnings in either mode, comma-separated",
    )
    for field in fields(Tolerances):
        unit = "MM" if field.name.endswith("_mm") else "COSINE"
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=float,
            default=field.default,
            metavar=unit,
            help=f"tolerance (default {field.default})",
        )


def _add_names(group: Any) -> None:
    group.add_argument(
        "--identified", action="store_true", help="write true patient ids, UIDs and paths"
    )
    group.add_argument(
        "--key-file", metavar="FILE", help="the project's key (default project.key in the output)"
    )
