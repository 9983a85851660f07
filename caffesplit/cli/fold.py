"""`caffesplit fold`: fold linear blocks of a trained net back into single layers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.study.fold import Result


@click.command(short_help="Fold a trained derived net back into its base architecture.")
@click.argument("target", metavar="EXP|NET", type=click.Path(path_type=Path))
@options.output("OUT")
@click.option(
    "--weights",
    metavar="ITER|FILE",
    help="Fold this snapshot or file [the last snapshot]; of a NET, the file.",
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
    target: Path,
    out: Path,
    weights: str | None,
    batch_norms: bool,
    chains: bool,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Fold what is linear in a trained net, branches and all, into single layers.

    They compute the same in TEST, to rounding, which is measured. OUT gets solver.prototxt,
    train_val.prototxt, deploy.prototxt (where EXP has one), folded.caffemodel and fold.json, a
    record; of a single NET just that one. Blocks are found in the graph: it may be a split net,
    or any other one with linear branches. BatchNorm and Scale in branches are folded with them.
    """
    from caffesplit.experiment import load
    from caffesplit.split.fold import Scope
    from caffesplit.study.files import is_net
    from caffesplit.study.fold import write_fold, write_net_fold

    scope = Scope(batch_norms, chains)
    if is_net(target):
        if weights is None:
            raise click.UsageError(f"{target} is a net: give its weights, --weights FILE.")
        path = Path(weights)
        result = write_net_fold(target, path, out, scope, force)
    else:
        experiment = load(target, root)
        last = weights or experiment.snapshots(snapshots)[-1].iteration
        path = experiment.weights_path(last, snapshots)
        result = write_fold(experiment, path, out, scope, force)
    _report(result)
    click.echo(f"{out}: folded from {path}, weights in {out / 'folded.caffemodel'}")
    if not is_net(target):
        click.echo(f"Test it with: caffesplit test {shlex.quote(str(out))}")


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
