"""`caffesplit upgrade`: nets, solvers and weights of older Caffes → today's format."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="Bring a net, solver or model of an older Caffe into today's format.")
@click.argument(
    "source",
    metavar="NET|SOLVER|MODEL",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("-o", "--output", "out", required=True, type=options.OutputType(), metavar="OUT")
@options.force
def command(source: Path, out: Path, force: bool) -> None:
    """Write the net, solver or model (.caffemodel) as OUT, in today's format.

    The result is that of Caffe's own upgrade tools; comments and formatting are kept, and so are
    the blobs, bit for bit. What has no place in today's format is left out, with a warning.
    """
    from caffesplit.net.findings import limited
    from caffesplit.study.upgrade import upgrade

    done = upgrade(source, out, force)
    for finding in limited(done.findings):
        click.echo(str(finding), err=True)
    if done.steps:
        click.echo(f"{out}: {done.kind} upgraded: {', '.join(done.steps)}")
    else:
        click.echo(f"{out}: a copy; {source} needs no upgrade, its {done.kind} is of today")
