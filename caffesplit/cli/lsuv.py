"""`caffesplit lsuv`: initial weights with which every layer puts out values of variance 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.study.lsuv import Outcome
    from caffesplit.study.lsuv_experiment import Result


@click.command(short_help="Initialise a net layer by layer to unit variance (LSUV).")
@options.experiment
@click.option(
    "-o",
    "--output",
    "out",
    type=options.OutputType(),
    metavar="FILE",
    help="The weights to write [EXP/init.caffemodel, which `train` takes up].",
)
@click.option(
    "--weights",
    metavar="ITER|FILE",
    help="Scale these weights, in place of random orthonormal ones.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="How far a layer's variance may be from 1.",
)
@click.option(
    "--max-iterations",
    "trials",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How often a layer's weights are scaled, at most.",
)
@click.option(
    "--batches",
    type=click.IntRange(min=1),
    metavar="N",
    help="Batches that variances are taken over, at once [as many as make 128 images].",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of the random weights, and of crops, mirror images and dropout.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "caffe", "torch"]),
    default="auto",
    show_default=True,
    help="What runs the net; auto is pycaffe where there is one, else PyTorch.",
)
@click.option(
    "--pycaffe",
    "python",
    metavar="PYTHON",
    help="A Python with pycaffe [$PYCAFFE, the one beside the Caffe binary, or on PATH].",
)
@options.snapshots
@options.root
@options.force
def command(
    exp: str,
    out: Path | None,
    weights: str | None,
    tolerance: float,
    trials: int,
    batches: int | None,
    seed: int,
    engine: str,
    python: str | None,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Write initial weights for EXP with which every layer's output has variance 1.

    Layer-sequential unit-variance initialisation (Mishkin and Matas, 2016): every layer gets
    random orthonormal weights, and on a batch of EXP's training data they are scaled until its
    output has unit variance, from the first layer to the last. The net is run on the CPU.
    """
    from caffesplit.cli.progress import steps
    from caffesplit.engines.forward import find
    from caffesplit.experiment import load
    from caffesplit.study.lsuv import Settings
    from caffesplit.study.lsuv_experiment import write_lsuv

    experiment = load(exp, root)
    target = out or experiment.folder / "init.caffemodel"
    start = None if weights is None else experiment.weights_path(weights, snapshots)
    settings = Settings(tolerance, trials, seed if start is None else None)
    with steps("initialising") as progress:
        result = write_lsuv(
            experiment,
            target,
            find(engine, python),
            settings,
            weights=start,
            batches=batches,
            seed=seed,
            force=force,
            progress=progress,
        )
    click.echo(_table(result.outcomes), nl=False)
    click.echo(f"{target}: {_summary(result)}")
    _warn(result.outcomes)


def _table(outcomes: Sequence[Outcome]) -> str:
    from caffesplit.report.tables import Table

    rows = tuple(
        (each.layer, f"{each.before:.4g}", f"{each.after:.4g}", each.trials, f"{each.scale:.4g}")
        for each in outcomes
    )
    return Table(("Layer", "Variance before", "after", "Trials", "Scale"), rows).plain()


def _summary(result: Result) -> str:
    good = sum(not each.problem for each in result.outcomes)
    text = f"{good} of {len(result.outcomes)} layers at unit variance"
    if result.left:
        left = ", ".join(f"{name} ({reason})" for name, reason in result.left.items())
        text += f"; left alone: {left}"
    return text


def _warn(outcomes: Sequence[Outcome]) -> None:
    for each in outcomes:
        if each.problem:
            click.echo(f"{each.layer}: {each.problem}", err=True)
