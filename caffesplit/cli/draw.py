"""`caffesplit draw`: a net as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options, plans

if TYPE_CHECKING:
    from caffesplit.net.graph import Net
    from caffesplit.net.shapes import Shapes
    from caffesplit.split.plan import Plan


@dataclass(frozen=True)
class Target:
    """A net to draw, with what is known of it beside its prototxt."""

    net: Net
    shapes: Shapes | None
    """As it is trained, for an experiment."""
    plan: Plan | None
    paths: tuple[Path, ...]


@click.command(short_help="Draw a net, its splits, and what changed.")
@click.argument("target", metavar="EXP|NET", type=click.Path(exists=True, path_type=Path))
@options.output("FILE", "svg, png, pdf, or dot (which needs no Graphviz).")
@click.option(
    "--base",
    metavar="EXP|NET",
    type=click.Path(exists=True, path_type=Path),
    help="Mark what was added, removed and changed since this net.",
)
@click.option(
    "--phase",
    type=click.Choice(["TRAIN", "TEST", "all"], case_sensitive=False),
    default="all",
    show_default=True,
    help="Only this phase's layers.",
)
@options.root
@options.force
def command(
    target: Path, out: Path, base: Path | None, phase: str, root: str | None, force: bool
) -> None:
    """Draw the net of EXP, or NET itself: layers, blobs with their shapes, params and MACs.

    Layers that work in place share the box of what they work on. Splits are coloured by their
    branches, and get their kernels' TPM from the split.json beside the net.
    """
    from caffesplit.report.draw import dot
    from caffesplit.report.draw_file import check_ending, save

    check_ending(out)
    drawn = _load(target, root)
    before = _load(base, root) if base else None
    only = None if phase == "all" else phase
    base_net = before.net if before else None
    source = dot(drawn.net, base_net, drawn.shapes, drawn.plan, only)
    save(source, out, force, (*drawn.paths, *(before.paths if before else ())))
    click.echo(out)


def _load(target: Path, root: str | None) -> Target:
    """The net that a prototxt holds itself, of any version, or that of an experiment."""
    from caffesplit.experiment import load
    from caffesplit.formats import prototxt
    from caffesplit.net import graph
    from caffesplit.net.upgrade import upgrade_net
    from caffesplit.study.files import is_net
    from caffesplit.study.inputs import train_shapes

    if is_net(target):
        tree = upgrade_net(prototxt.load(target), str(target)).result
        return Target(graph.build(tree, str(target)), None, _plan(target), (target,))
    experiment = load(target, root)
    plan = _plan(experiment.net_path)
    return Target(experiment.net, train_shapes(experiment), plan, experiment.paths)


def _plan(net: Path) -> Plan | None:
    """The plan of the split that made the net."""
    path = plans.split_record(net.parent)
    return plans.read_plan(path) if path else None
