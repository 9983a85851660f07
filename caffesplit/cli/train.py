"""`caffesplit train`: train an experiment with the real Caffe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.engines.job import Outcome

STOPPED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""

file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Train an experiment.")
@options.experiment
@click.option(
    "--engine",
    type=click.Choice(["auto", "caffe"]),
    default="auto",
    show_default=True,
    help="What trains; auto is caffe.",
)
@click.option(
    "--caffe",
    "caffe_path",
    metavar="PATH",
    help="The Caffe binary [$CAFFE, $CAFFE_ROOT, PATH, or what tools/install_caffe.py brought].",
)
@click.option("--gpu", metavar="IDS", help="GPUs, as Caffe takes them: 0 or 0,1 or all.")
@click.option("--weights", type=file, metavar="FILE", help="Start from a caffemodel.")
@click.option("--snapshot", type=file, metavar="FILE", help="Go on from a solverstate.")
@click.option(
    "--log",
    "log_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where the log goes [EXP/train.log].",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace an earlier run's snapshots, or later ones than --snapshot.",
)
@options.root
@click.pass_context
def command(
    context: click.Context,
    exp: str,
    engine: str,
    caffe_path: str | None,
    gpu: str | None,
    weights: Path | None,
    snapshot: Path | None,
    log_path: Path | None,
    force: bool,
    root: str | None,
) -> None:
    """Train EXP with Caffe, from its init.solverstate or init.caffemodel where it has one.

    The log goes to EXP/train.log as Caffe prints it. A run that goes on from a snapshot is
    appended; otherwise an earlier log is kept as train.log.1, train.log.2 …. Snapshots of an
    earlier run, or later ones than that it goes on from, are replaced with --force alone. Ctrl-C
    lets Caffe take a snapshot and stop, a second one kills it.
    """
    from caffesplit import experiment
    from caffesplit.cli.progress import training
    from caffesplit.engines import caffe_binary, job

    loaded = experiment.load(exp, root)
    caffe = caffe_binary.find(caffe_path)
    planned = job.prepare(
        loaded, weights=weights, snapshot=snapshot, gpu=gpu, log=log_path, force=force
    )
    with training(loaded.name, loaded.solver.max_iter) as observe:
        outcome = caffe_binary.train(planned, caffe, observe)
    click.echo(f"{loaded.name}: {summary(outcome)}")
    click.echo(f"log: {_shown(planned.log)}")
    if outcome.snapshots:
        click.echo(f"last snapshot: {_shown(outcome.snapshots[-1])}")
    if outcome.stopped:
        click.echo("stopped before its end; --snapshot with the .solverstate beside it goes on")
        context.exit(STOPPED)


def summary(outcome: Outcome) -> str:
    """What a run did, in a line."""
    plural = "" if outcome.iterations == 1 else "s"
    parts = [f"{outcome.iterations} iteration{plural} in {outcome.seconds:.1f} s"]
    if outcome.loss is not None:
        parts.append(f"loss {outcome.loss:.4g}")
    if outcome.accuracy is not None:
        parts.append(f"accuracy {outcome.accuracy:.4f}")
    return ", ".join(parts)


def _shown(path: Path) -> Path:
    """The path as one would write it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
