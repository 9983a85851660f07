"""`caffesplit data`: data sets as LMDBs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options
from caffesplit.cli.data_options import Finite, bars, epsilon, gcn, made, pad, preparation

if TYPE_CHECKING:
    from caffesplit.data.labels import Shuffled
    from caffesplit.data.prepare import Preparation, Written


@click.group(short_help="Write a data set or a LevelDB as LMDBs, whiten, shuffle labels.")
def command() -> None:
    """Write a data set as LMDBs for Caffe's Data layers.

    A run that was stopped leaves a folder NAME.partial beside its outputs; the same command, given
    again, goes on there.
    """


folder = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))

existing = click.Path(exists=True, path_type=Path)


@command.command()
@folder
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
@preparation
@options.force
def digits(
    folder: Path, train_images: int, seed: int, preparation: Preparation, force: bool
) -> None:
    """Scikit-learn's handwritten digits, 8×8: DIR/digits_train_lmdb, DIR/digits_test_lmdb.

    Beside them digits_mean.binaryproto and, with --zca, digits_zca.npz.
    """
    from caffesplit.data import digits as dataset

    with bars() as progress:
        written = dataset.write(
            folder, train_images, seed, preparation, force=force, progress=progress
        )
    _say(written)


archive = click.option(
    "--archive",
    type=existing,
    metavar="FILE",
    help="The binary version's archive, or the folder in it.  [default: downloaded, and kept in "
    "the cache folder]",
)


@command.command()
@folder
@archive
@preparation
@options.force
def cifar10(folder: Path, archive: Path | None, preparation: Preparation, force: bool) -> None:
    """CIFAR-10: DIR/cifar10_train_lmdb, DIR/cifar10_test_lmdb.

    Beside them cifar10_mean.binaryproto and, with --zca, cifar10_zca.npz. ALL-CNN-C and Maxout
    are trained on --gcn --zca.
    """
    _write_cifar("CIFAR10", folder, archive, preparation, False, force)


@command.command()
@folder
@archive
@click.option("--coarse", is_flag=True, help="Label by the 20 superclasses, not the 100 classes.")
@preparation
@options.force
def cifar100(
    folder: Path, archive: Path | None, coarse: bool, preparation: Preparation, force: bool
) -> None:
    """CIFAR-100: DIR/cifar100_train_lmdb, DIR/cifar100_test_lmdb.

    Beside them cifar100_mean.binaryproto and, with --zca, cifar100_zca.npz.
    """
    _write_cifar("CIFAR100", folder, archive, preparation, coarse, force)


def _write_cifar(
    name: str,
    folder: Path,
    archive: Path | None,
    preparation: Preparation,
    coarse: bool,
    force: bool,
) -> None:
    from caffesplit.data import cifar
    from caffesplit.engines.install import cache_folder

    dataset = getattr(cifar, name)
    with bars() as progress:
        source = archive or cifar.download(dataset, cache_folder() / "data", progress)
        written = cifar.write(
            dataset, source, folder, preparation, coarse=coarse, force=force, progress=progress
        )
    _say(written)


@command.command()
@click.argument("sources", metavar="TRAIN [OTHER]…", nargs=-1, required=True, type=existing)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=options.OutputType(),
    required=True,
    help="Folder for the whitened LMDBs, which keep their names.",
)
@gcn
@epsilon
@pad
@options.force
def whiten(
    sources: tuple[Path, ...],
    folder: Path,
    gcn: bool,
    epsilon: float | None,
    pad: int,
    force: bool,
) -> None:
    """Whiten LMDBs of equally-sized images by ZCA, fitted to the first of them.

    Beside them TRAIN's mean (.binaryproto) and the whitening's parameters (.npz).
    """
    from caffesplit.data import whitened

    with bars() as progress:
        written = whitened.write(
            sources, folder, made(gcn, True, epsilon, pad), force=force, progress=progress
        )
    _say(written)


@command.command()
@click.argument("source", metavar="SOURCE", type=existing)
@options.output("DEST", "The LMDB.")
@options.force
def lmdb(source: Path, out: Path, force: bool) -> None:
    """Write the records of a LevelDB as an LMDB.

    The same keys and values, to the byte, in the same order. SOURCE, a LevelDB as Caffe's tools
    write it by default, stays as it is.
    """
    from caffesplit.data import from_leveldb
    from caffesplit.formats.prototxt import quote

    with bars() as progress:
        records = from_leveldb.write(source, out, force=force, progress=progress)
    click.echo(f"{out}: {records:,} records, those of {source}")
    click.echo("Write into the data_param of the layers that read it:")
    click.echo(f"    source: {quote(str(out))} backend: LMDB")


@command.command("shuffle-labels")
@click.argument("source", metavar="SRC", type=existing)
@click.argument("destination", metavar="DST", type=options.OutputType())
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Chooses the permutation.")
@click.option(
    "--fraction",
    type=Finite(0, 1),
    default=1.0,
    show_default=True,
    metavar="F",
    help="Part of the images whose labels are permuted.",
)
@options.json_output
@options.force
def shuffle_labels(
    source: Path, destination: Path, seed: int, fraction: float, json_path: str | None, force: bool
) -> None:
    """Permute the labels of SRC, an LMDB or a list of images, into DST.

    Images stay as they are, to the byte, and every label as frequent as it was.
    """
    from dataclasses import asdict

    from caffesplit.data import labels

    with bars() as progress:
        done = labels.shuffle(source, destination, seed, fraction, force=force, progress=progress)
    if json_path is not None:
        options.write_json(asdict(done), json_path, force)
    if json_path != "-":
        click.echo(f"{destination}: {_shuffled(done)}")


def _shuffled(done: Shuffled) -> str:
    counts = done.histogram.values()
    least, most = min(counts), max(counts)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return (
        f"{done.records:,} images, labels of {done.chosen:,} permuted, "
        f"{done.changed:,} ({done.changed / done.records:.1%}) are others now\n"
        f"{len(done.histogram)} labels with {each} images each, as before"
    )


def _say(written: Written) -> None:
    from caffesplit.formats import database

    for path in written.databases:
        click.echo(f"{path}: {database.count(path)} images")
    click.echo(f"{written.mean}: mean of {written.databases[0].name}")
    if written.whitening:
        click.echo(f"{written.whitening}: whitening fitted to {written.databases[0].name}")
