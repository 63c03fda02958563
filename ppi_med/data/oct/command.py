"""The command line of the conversion: `python data_prep/convert_oct.py --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ppi_med.data.oct.convert import ConversionError, SplitOptions, convert_folder
from ppi_med.data.oct.options import parse_spacing
from ppi_med.data.oct.registry import READERS

_EPILOG = """\
formats: {formats}

What a file does not tell stays unknown in the manifest, unless an option or the table of labels
tells it; the column `provenance` says which. A source that cannot be read is reported by name and
the rest goes on. The same command again does only what is missing.

exit code: 0 all well, 1 something failed or nothing was found, 2 wrong usage, 130 stopped.

example:
  python data_prep/convert_oct.py --source scans --output dataset --labels scans/labels.csv \\
      --spacing 0.0067,0.0045,0.067 --pad-width 1000 --expect-slices 100
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the conversion and print its report.

    Args:
        argv: arguments; default those of the process.

    Returns:
        The exit code.
    """
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    splits = SplitOptions(
        fractions=arguments.pop("fractions"),
        folds=arguments.pop("folds"),
        seed=arguments.pop("seed"),
        stratify=tuple(arguments.pop("stratify")),
        renew=arguments.pop("new_splits"),
    )
    try:
        report = convert_folder(splits=splits, **arguments)
    except (ConversionError, FileNotFoundError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(report.table())
    if report.count("ok", "kept") and not report.interrupted:
        print(f"written to {report.output}: volumes, manifest.csv, datalist.json and the report.")
    return report.exit_code


def _parser() -> argparse.ArgumentParser:
    formats = "; ".join(f"{entry.what} ({' '.join(entry.suffixes)})" for entry in READERS.values())
    parser = argparse.ArgumentParser(
        prog="convert_oct.py",
        description="Convert OCT files of many vendors to NIfTI, with manifest, datalist and "
        "splits.",
        epilog=_EPILOG.format(formats=formats),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, help="folder with the files, or one file")
    parser.add_argument("--output", required=True, help="folder of the data set")
    _add_facts(parser.add_argument_group("what the files do not tell"))
    _add_reading(parser.add_argument_group("reading"))
    _add_checks(parser.add_argument_group("checks"))
    _add_splits(parser.add_argument_group("splits, made once"))
    _add_running(parser.add_argument_group("running"))
    return parser


def _add_facts(group: Any) -> None:
    group.add_argument(
        "--labels",
        metavar="CSV",
        help="columns file, subject, eye, visit, site, label, label_rule; others are kept",
    )
    group.add_argument(
        "--pattern",
        metavar="REGEX",
        help="the same from the path, by named groups: '(?P<site>[^/]+)/(?P<subject>[^_]+)'",
    )
    group.add_argument(
        "--spacing",
        type=_checked(parse_spacing),
        metavar="LATERAL,AXIAL,BETWEEN",
        help="mm, '?' where unknown; used where the file does not tell",
    )
    group.add_argument(
        "--spacing-overrides", action="store_true", help="let --spacing win over the files"
    )
    group.add_argument("--laterality", choices=("OD", "OS"), help="for files that do not tell")
    group.add_argument(
        "--shape",
        type=_checked(_shape),
        metavar="DEPTH,WIDTH,B-SCANS",
        help="sizes for formats without a header (Zeiss .img)",
    )
    group.add_argument(
        "--salt", default="", help="goes into the hash that stands for a patient's id"
    )


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--pad-width", type=int, metavar="N", help="widen narrower volumes by repeating the edge"
    )
    group.add_argument(
        "--variable", metavar="NAME", help="volume in a .mat file (default images, or the only one)"
    )
    group.add_argument("--mask-variable", metavar="NAME", help="lesion mask in a .mat file")
    group.add_argument(
        "--axes", default="dwn", help="axes in a .mat file: d(epth), w(idth), n (B-scans)"
    )
    group.add_argument(
        "--window",
        type=_checked(_window),
        metavar="LOW,HIGH",
        help="pixel values that become 0 and 255",
    )
    group.add_argument(
        "--images",
        choices=("stack", "single"),
        default="stack",
        help="the pictures of a folder are one volume, or one volume each",
    )


def _add_checks(group: Any) -> None:
    group.add_argument(
        "--expect-slices", type=int, metavar="N", help="B-scans that every volume must have"
    )
    for name, what in (
        ("--slices-policy", "another number of B-scans"),
        ("--laterality-policy", "file and table contradict each other on the eye"),
        ("--subject-policy", "one patient's id in the files, two subjects told"),
        ("--colour", "pictures with something drawn into them"),
    ):
        group.add_argument(name, choices=("refuse", "warn"), default="refuse", help=what)


def _add_splits(group: Any) -> None:
    group.add_argument(
        "--fractions",
        type=_checked(_fractions),
        default=(0.6, 0.2, 0.2),
        metavar="TRAIN,VAL,TEST",
        help="shares of the subjects (default 0.6,0.2,0.2)",
    )
    group.add_argument("--folds", type=int, default=5, help="over training and validation")
    group.add_argument("--seed", type=int, default=0, help="of the shuffle")
    group.add_argument(
        "--stratify",
        type=lambda text: [name for name in text.split(",") if name],
        default=["site", "label"],
        metavar="COLUMNS",
        help="kept in equal shares in all parts (default site,label)",
    )
    group.add_argument("--new-splits", action="store_true", help="replace an existing splits.json")


def _add_running(group: Any) -> None:
    group.add_argument("--workers", type=int, metavar="N", help="processes (default one a core)")
    group.add_argument("--overwrite", action="store_true", help="convert again what is done")
    group.add_argument(
        "--prune", action="store_true", help="remove volumes whose source is no longer there"
    )
    group.add_argument("--quiet", dest="progress", action="store_false", help="no progress bar")


def _checked(kind: Any) -> Any:
    """Make argparse print the sentence of a ValueError instead of the function's name."""

    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _numbers(text: str, kind: Any, count: int, what: str) -> tuple[Any, ...]:
    try:
        values = tuple(kind(place) for place in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise ValueError(f"got {text!r}, expected {what}.")
    return values


def _shape(text: str) -> tuple[Any, ...]:
    return _numbers(text, int, 3, "DEPTH,WIDTH,B-SCANS")


def _window(text: str) -> tuple[Any, ...]:
    return _numbers(text, float, 2, "LOW,HIGH")


def _fractions(text: str) -> tuple[Any, ...]:
    return _numbers(text, float, 3, "TRAIN,VAL,TEST")
