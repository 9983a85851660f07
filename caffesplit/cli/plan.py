"""`caffesplit plan`: decide what to split, to be read and edited before it is done."""

from __future__ import annotations

import json
from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="Decide what to split, and how.")
@options.experiment
@click.option(
    "-o", "--output", "out", required=True, type=click.Path(path_type=Path), metavar="plan.json"
)
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

    Read it, change it by hand if you like, and carry it out with `caffesplit split --plan`.
    """
    from caffesplit.experiment import load
    from caffesplit.formats.output import replacing
    from caffesplit.split.plan_json import as_json

    plan = decision.plan(load(exp, root), snapshots)
    with replacing(out, force=force) as (staged,):
        staged.write_text(json.dumps(as_json(plan), indent=1) + "\n", encoding="utf-8")
    for layer in plan.layers:
        click.echo(
            f"{layer.name}: {layer.method}, {len(layer.fast)} fast, {len(layer.slow)} slow kernels"
        )
