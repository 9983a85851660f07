"""`caffesplit zoo`: experiments that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.zoo import Entry

folder = click.Path(file_okay=False, path_type=Path)


@click.command(short_help="Write one of the notebooks' nets as an experiment.")
@click.argument("name", required=False)
@click.option("-o", "--output", "out", type=options.OutputType(), metavar="EXP")
@click.option(
    "--data",
    "data",
    type=folder,
    metavar="DIR",
    help="Where its data is, or will be [as ROOT/data/cifar10-gcn-zca-pad5, by its preparation].",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="The folder that Caffe is to be called from [the working directory].",
)
@click.option("--list", "listed", is_flag=True, help="Print which nets there are.")
@options.force
def command(
    name: str | None, out: Path | None, data: Path | None, root: Path, listed: bool, force: bool
) -> None:
    """Write the net NAME into EXP: solver, train_val and deploy prototxt. Without NAME, list them.

    Architectures and hyper-parameters are those of the papers, or the notebooks' where they say
    otherwise; comments in the files tell the source.
    """
    from caffesplit import zoo

    if name is None or listed:
        _print_list()
        return
    entry = zoo.entry(name)
    if out is None:
        raise click.UsageError("Say where to write it: -o EXP.")
    data = data or root / "data" / entry.data_name
    solver = zoo.write(name, out, root, data, force=force)
    click.echo(f"{solver}: {name} for {entry.dataset}, {entry.parameters:,} parameters")
    click.echo("next:")
    for step in _steps(entry, out, root, data):
        click.echo(f"  {step}")


def _print_list() -> None:
    from caffesplit import zoo
    from caffesplit.report.tables import Table

    rows = tuple(
        (name, each.dataset, each.parameters, each.source, each.notebooks)
        for name, each in zoo.NETS.items()
    )
    header = ("Name", "Data set", "Parameters", "Source", "Notebooks")
    click.echo(Table(header, rows).plain(), nl=False)


def _steps(entry: Entry, out: Path, root: Path, data: Path) -> list[str]:
    """What to do with a written experiment, as commands."""
    import shlex

    verb, *prepared = entry.data.split()
    steps = []
    if not (data / f"{verb}_train_lmdb").is_dir():
        steps.append(["data", verb, str(data), *prepared])
    where = [] if root.resolve() == Path.cwd() else ["--root", str(root)]
    if entry.lsuv:
        steps.append(["lsuv", str(out), *where])
    steps.append(["train", str(out), *where])
    return [shlex.join(["caffesplit", *step]) for step in steps]
