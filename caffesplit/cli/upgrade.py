"""`caffesplit upgrade`: experiments, nets, solvers and weights of older Caffes → today's format."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="Bring an old Caffe's experiment or file into today's format.")
@click.argument(
    "source", metavar="EXP|NET|SOLVER|MODEL", type=click.Path(exists=True, path_type=Path)
)
@options.output("OUT")
@options.root
@options.force
def command(source: Path, out: Path, root: str | None, force: bool) -> None:
    """Write an experiment, or a net, solver or model (.caffemodel), as OUT, in today's format.

    The result is that of Caffe's own upgrade tools; comments and formatting are kept, and so are
    the blobs, bit for bit. What has no place in today's format is left out, with a warning.

    Of an experiment (a folder, or a solver where OUT is a folder or has no ending), the folder OUT
    gets solver and nets. Its snapshots stay where they are, as they are: `--snapshots PREFIX` of
    the other verbs names them. Those of a new training go into OUT.
    """
    from caffesplit.net.findings import limited
    from caffesplit.study.upgrade import is_solver, upgrade
    from caffesplit.study.upgrade_experiment import upgrade_experiment

    names_folder = out.is_dir() or not out.suffix
    if source.is_dir() or (names_folder and is_solver(source)):
        done = upgrade_experiment(source, out, root, force)
    elif root is not None:
        raise click.UsageError("--root is for the paths of an experiment; leave it out.")
    else:
        done = (upgrade(source, out, force),)
    for each in done:
        for finding in limited(each.findings):
            click.echo(str(finding), err=True)
        what = (
            f"upgraded: {', '.join(each.steps)}" if each.steps else f"of today, from {each.source}"
        )
        click.echo(f"{each.path}: {each.kind} {what}")
