"""`caffesplit split`: derive an experiment whose planned layers are split."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from caffesplit.cli import options, plans


@click.command(short_help="Derive an experiment in which layers are split.")
@options.experiment
@options.output("OUT")
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A plan.json, or another split's split.json, in place of a decision now.",
)
@options.decision
@click.option(
    "--weights",
    metavar="ITER|FILE",
    help="Start from this snapshot or file [the snapshot at the window's end].",
)
@click.option(
    "--noise",
    type=float,
    default=0.01,
    show_default=True,
    help="Standard deviation of the noise on the 1×1 layers' start.",
)
@click.option(
    "--edge",
    type=options.PairType(),
    metavar="E,C",
    default="-0.2,2",
    show_default=True,
    help="residual_pre starts as E·w everywhere plus C·w at the centre.",
)
@click.option(
    "--skip-stride",
    type=click.Choice(["sample", "average"]),
    default="sample",
    show_default=True,
    help="What a skip does with a stride: take one pixel of each step, or their average.",
)
@click.option(
    "--activation",
    type=click.Choice(["none", "relu"]),
    default="none",
    show_default=True,
    help="What stands between residual_pre and residual_post.",
)
@click.option(
    "--preserve",
    is_flag=True,
    help="Start exactly as the base: split2 gives up what residual or skip adds.",
)
@click.option(
    "--momentum",
    is_flag=True,
    help="Also write init.solverstate, to go on at EXP's iteration with its momentum.",
)
@click.option(
    "--hdf5",
    is_flag=True,
    help="Write init.caffemodel.h5 (init.solverstate.h5), which may be larger than 2 GB.",
)
@click.option(
    "--new-lr-mult",
    type=float,
    default=1.0,
    show_default=True,
    help="lr_mult of the layers that the split adds.",
)
@click.option(
    "--new-decay-mult",
    type=float,
    default=1.0,
    show_default=True,
    help="decay_mult of the layers that the split adds.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Set a field of the derived solver; may be repeated.",
)
@options.snapshots
@options.root
@options.force
def command(
    exp: str,
    out: Path,
    plan_path: Path | None,
    decision: options.Decision,
    weights: str | None,
    noise: float,
    edge: tuple[float, float],
    skip_stride: str,
    activation: str,
    preserve: bool,
    momentum: bool,
    hdf5: bool,
    new_lr_mult: float,
    new_decay_mult: float,
    assignments: tuple[str, ...],
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Write an experiment derived from EXP, in which layers are split into fast and slow kernels.

    OUT gets solver.prototxt, train_val.prototxt, init.caffemodel, split.json (and
    deploy.prototxt where EXP has one): an experiment again, to train and to split further.
    Where EXP's solver keeps train and test nets apart, OUT has train.prototxt and test.prototxt.
    """
    from caffesplit.experiment import load
    from caffesplit.split.forms import Setting
    from caffesplit.study.derive import derive

    setting = Setting(noise, edge, new_lr_mult, new_decay_mult, skip_stride, activation, preserve)
    experiment = load(exp, root)
    if plan_path is None:
        plan = decision.plan(experiment, snapshots)
    else:
        decision.refuse_beside_plan()
        plan = plans.read_plan(plan_path)
    start = experiment.weights_path(weights or plan.iterations[-1], snapshots)
    change = derive(
        experiment, plan, start, out, setting, assignments, force, momentum=momentum, hdf5=hdf5
    )
    click.echo(options.scored(plan), nl=False)
    for layer in plan.layers:
        parts = change.parts[layer.name]
        click.echo(
            f"{layer.name}: {layer.method} split, {len(layer.fast)} fast and "
            f"{len(layer.slow)} slow of {layer.num_output} kernels → {len(parts)} layers"
        )
    starts = "goes on with the momentum of" if momentum else "starts from"
    click.echo(f"{out}: {starts} {start}. Train it with: caffesplit train {shlex.quote(str(out))}")
