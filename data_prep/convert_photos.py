"""Index photographs: `python data_prep/convert_photos.py --source DIR --output DIR`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ppi_med.errors import UsageError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def main() -> None:
    try:
        app()
    except UsageError as error:
        typer.echo(f"convert_photos: {error}", err=True)
        sys.exit(2)


@app.command()
def convert(
    source: Annotated[Path, typer.Option(help="Folder of the photographs.")],
    output: Annotated[Path, typer.Option(help="Folder for datalist.json.")],
    layout: Annotated[
        str, typer.Option(help="cub, cifar, labels_csv, imagenet, folders; auto recognises it.")
    ] = "auto",
    validation: Annotated[
        float, typer.Option(help="Share of each class's training images for validation.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of that choice.")] = 0,
    training: Annotated[int, typer.Option(help="Keep only so many training images; 0: all.")] = 0,
) -> None:
    """Write a datalist of photographs, with their boxes where they are known.

    No picture is copied: the datalist says where they are. Official parts are kept.
    """
    from ppi_med.data.photos.convert import convert_photos, summary

    made = convert_photos(
        source,
        output,
        layout=layout,
        validation=validation,
        seed=seed,
        training=training or None,
    )
    typer.echo(summary(made))


if __name__ == "__main__":
    main()
