"""`caffesplit fold`: fold linear blocks of a trained net back into single layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.study.fold import Result


@click.command(short_help="Fold a trained derived net back into its base architecture.")
@options.experiment
@click.option("-o", "--output", "out", required=True, type=options.OutputType(), metavar="OUT")
@click.option(
    "--weights",
    metavar="ITER|FILE",
    help="Fold this snapshot or file [the last snapshot].",
)
@click.option(
    "--bn",
    "batch_norms",
    is_flag=True,
    help="Also fold BatchNorm and Scale into the convolutions before them.",
)
@click.option(
    "--chains",
    is_flag=True,
    help="Also fold sequences without branches, where one layer has no more weights.",
)
@options.snapshots
@options.root
@options.force
def command(
    exp: str,
    out: Path,
    weights: str | None,
    batch_norms: bool,
    chains: bool,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Fold what is linear in EXP's trained net, branches and all, into single layers.

    They compute the same in TEST, to rounding, which is measured. OUT gets train_val.prototxt,
    deploy.prototxt (where EXP has one), folded.caffemodel and fold.json, a record. Blocks are
    found in the graph: EXP may be a split net, or any other one with linear branches.
    """
    from caffesplit.experiment import load
    from caffesplit.split.fold import Scope
    from caffesplit.study.fold import write_fold

    experiment = load(exp, root)
    last = weights or experiment.snapshots(snapshots)[-1].iteration
    path = experiment.weights_path(last, snapshots)
    result = write_fold(experiment, path, out, Scope(batch_norms, chains), force)
    _report(result)
    click.echo(f"{out}: folded from {path}, weights in {out / 'folded.caffemodel'}")


def _report(result: Result) -> None:
    for block in result.folded:
        click.echo(
            f"{block.name}: {len(block.members)} layers → 1, {block.before:,} → {block.after:,} "
            f"parameters, deviation {block.deviation:.1e}"
        )
    for each in result.left:
        click.echo(f"{each.layer.name} ({each.layer.type}) stays: {each.reason}")
    if result.folded:
        click.echo(f"largest deviation {result.deviation:.1e}, relative, on random input")
    else:
        click.echo("nothing to fold: the net is written as it is")
