"""`caffesplit check`: hold a net, and weights, against the rules of what Caffe loads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.experiment import Experiment
    from caffesplit.net.findings import Finding
    from caffesplit.net.graph import Net


@click.command(short_help="Check a net, and weights against it.")
@click.argument("target", metavar="EXP|NET", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="A caffemodel that should fit the net.",
)
@options.root
def command(target: Path, weights: Path | None, root: str | None) -> None:
    """Check the net of EXP, or NET itself; exit code 1 if a rule is broken.

    What only a fork may know (fields, layer types), and data of EXP that is not there, is a
    warning, and no failure.
    """
    from caffesplit.formats import caffemodel
    from caffesplit.net import check
    from caffesplit.net.findings import counted, limited

    net, experiment = _load(target, root)
    findings = check.check_net(net)
    if experiment:
        findings += limited(_missing_sources(experiment))
    if weights is not None:
        stored = caffemodel.index(weights).layers
        findings += check.check_weights(net, {layer.name: layer.blobs for layer in stored})
    for finding in findings:
        click.echo(str(finding))
    errors = sum(finding.count for finding in findings if not finding.warning)
    warnings = sum(finding.count for finding in findings if finding.warning)
    click.echo(
        f"{target}: {counted(len(net.layers), 'layer')}, {counted(errors, 'error')}, "
        f"{counted(warnings, 'warning')}"
    )
    sys.exit(1 if errors else 0)


def _load(target: Path, root: str | None) -> tuple[Net, Experiment | None]:
    """The net that a prototxt holds itself, or an experiment's."""
    from caffesplit.experiment import load
    from caffesplit.formats import prototxt
    from caffesplit.net import graph

    if target.is_file():
        tree = prototxt.load(target)
        if tree.get("layer") or tree.get("layers"):
            return graph.build(tree, str(target)), None
    experiment = load(target, root)
    return experiment.net, experiment


def _missing_sources(experiment: Experiment) -> Iterator[Finding]:
    """Files and folders that the layers of any phase read from, and that do not exist."""
    from caffesplit.experiment import named_paths
    from caffesplit.net.findings import Finding

    root = experiment.root.resolve()
    for field, path in named_paths(experiment.net):
        place = os.path.join(root, path)  # noqa: PTH118
        if not os.path.exists(place):  # noqa: PTH110 - a Path raises for names too long
            message = f'{field.name} "{path}" does not exist; expected {place}'
            yield Finding("present-sources", message, field.location(), True, path)
