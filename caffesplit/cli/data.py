"""`caffesplit data`: data sets as LMDBs."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.group(short_help="Write a data set as LMDBs.")
def command() -> None:
    """Write a data set as LMDBs for Caffe's Data layers."""


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--train",
    "train_images",
    metavar="N",
    type=click.IntRange(10, 797),
    default=500,
    show_default=True,
    help="Training images.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Chooses the images for training and test.",
)
@options.force
def digits(folder: Path, train_images: int, seed: int, force: bool) -> None:
    """Scikit-learn's handwritten digits, 8×8: DIR/digits_train_lmdb, DIR/digits_test_lmdb."""
    from caffesplit.data import digits as dataset

    train, test = dataset.write(folder, train_images, seed, force=force)
    click.echo(f"{train}: {train_images} images\n{test}: {dataset.TEST_IMAGES} images")
