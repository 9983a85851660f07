"""`caffesplit train`: train an experiment, with the real Caffe or with PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.engines.choice import Engine
    from caffesplit.engines.job import Outcome

STOPPED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""

file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Train an experiment.")
@options.experiment
@options.engine
@options.gpu
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
    engine: Engine,
    gpu: str | None,
    weights: Path | None,
    snapshot: Path | None,
    log_path: Path | None,
    force: bool,
    root: str | None,
) -> None:
    """Train EXP from its init.solverstate or init.caffemodel where it has one.

    The log goes to EXP/train.log as Caffe prints it. A run that goes on from a snapshot is
    appended; otherwise an earlier log is kept as train.log.1, train.log.2 …. Snapshots of an
    earlier run, or later ones than that it goes on from, are replaced with --force alone. Ctrl-C
    takes a snapshot and stops, a second one kills the run; SIGHUP takes one and goes on.

    With --engine torch, several GPUs or machines train together under torchrun, each with a batch
    of its own, as Caffe's --gpu 0,1: torchrun --nproc_per_node=2 -m caffesplit train EXP --engine
    torch.
    """
    from caffesplit import experiment
    from caffesplit.cli.progress import training
    from caffesplit.engines import job, start

    loaded = experiment.load(exp, root)
    planned = job.prepare(
        loaded, weights=weights, snapshot=snapshot, gpu=gpu, log=log_path, force=force
    )
    if not _is_first():
        engine.train(planned, lambda record: None)
        return
    title = engine.title(gpu, planned.device_id)
    if warning := engine.warning(loaded.solver, gpu):
        click.echo(f"{loaded.name}: {warning}", err=True)
    if planned.weights and (names := start.check_weights(loaded, planned.weights)):
        click.echo(f"{loaded.name}: {start.unfilled_line(names)}", err=True)
    with training(loaded.name, loaded.solver.max_iter, title) as observe:
        outcome = engine.train(planned, observe)
    click.echo(f"{loaded.name}: {summary(outcome, title)}")
    click.echo(f"log: {_shown(planned.log)}")
    if outcome.snapshots:
        click.echo(f"last snapshot: {_shown(outcome.snapshots[-1])}")
    if outcome.stopped:
        way_on = "; --snapshot with the .solverstate beside it goes on" if outcome.snapshots else ""
        click.echo(f"stopped before its end{way_on}")
        context.exit(STOPPED)


def _is_first() -> bool:
    """Whether this process is alone, or the first of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def summary(outcome: Outcome, engine: str) -> str:
    """What a run did, in a line."""
    plural = "" if outcome.iterations == 1 else "s"
    parts = [f"{outcome.iterations} iteration{plural} in {outcome.seconds:.1f} s with {engine}"]
    if outcome.loss is not None:
        when = "" if outcome.loss_at == outcome.iterations else f" at iteration {outcome.loss_at}"
        parts.append(f"loss {outcome.loss:.4g}{when}")
    if outcome.accuracy is not None:
        parts.append(f"accuracy {outcome.accuracy:.4f}")
    return ", ".join(parts)


def _shown(path: Path) -> Path:
    """The path as one would write it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
