"""`caffesplit plan`: decide what to split, to be read and edited before it is done."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="Decide what to split, and how.")
@options.experiment
@options.output("plan.json")
@options.decision
@options.snapshots
@options.root
@options.force
def command(
    exp: str,
    out: Path,
    decision: options.Decision,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Decide which kernels of which layers are fast and slow, and write that as plan.json.

    Read it, change it by hand if you like, and carry it out with
    `caffesplit split EXP --plan FILE -o OUT`.
    """
    from caffesplit.experiment import load
    from caffesplit.split.plan_json import as_json

    experiment = load(exp, root)
    options.check_outputs((out,), force, experiment, snapshots)
    plan = decision.plan(experiment, snapshots)
    options.write_json(as_json(plan), str(out), force)
    click.echo(options.scored(plan), nl=False)
    for layer in plan.layers:
        click.echo(
            f"{layer.name}: {layer.method}, {len(layer.fast)} fast, {len(layer.slow)} slow kernels"
        )
    paths = f"{shlex.quote(exp)} --plan {shlex.quote(str(out))}"
    click.echo(f"{out}: edit it if you like, then: caffesplit split {paths} -o OUT")
