"""`caffesplit check`: hold a solver, its nets, and weights against the rules of what Caffe runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.experiment import Experiment
    from caffesplit.formats.layers import LayerRecord
    from caffesplit.net.findings import Finding
    from caffesplit.net.graph import Net
    from caffesplit.net.partial import Partial

    Images = Mapping[str, Partial]


@click.command(short_help="Check a solver and its net, or a net, and weights against it.")
@click.argument("target", metavar="EXP|NET", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="A caffemodel that should fit the net.",
)
@options.root
def command(target: Path, weights: Path | None, root: str | None) -> None:
    """Check the solver and nets of EXP, or NET itself; exit code 1 if a rule is broken.

    What only a fork may know (fields, layer types), and data of EXP that is not there, is a
    warning, and no failure.
    """
    from caffesplit.formats import caffemodel
    from caffesplit.net.findings import counted
    from caffesplit.study.inputs import image_shapes

    nets, experiment = _load(target, root)
    stored = caffemodel.index(weights).layers if weights else ()
    findings: list[Finding] = []
    for net, phases in nets:
        images = image_shapes(experiment, net) if experiment else {}
        findings += _net_findings(net, phases, images)
        if weights:
            findings += _weight_findings(net, stored, images, trained=net is nets[0][0])
    if experiment:
        findings += _training_findings(experiment)
        findings += _solver_findings(experiment)
    for finding in findings:
        click.echo(str(finding))
    errors = sum(finding.count for finding in findings if not finding.warning)
    warnings = sum(finding.count for finding in findings if finding.warning)
    several = f"{counted(len(nets), 'net')}, " if len(nets) > 1 else ""
    layers = sum(len(net.layers) for net, _ in nets)
    click.echo(
        f"{target}: {several}{counted(layers, 'layer')}, {counted(errors, 'error')}, "
        f"{counted(warnings, 'warning')}"
    )
    sys.exit(1 if errors else 0)


def _load(target: Path, root: str | None) -> tuple[list[tuple[Net, set[str]]], Experiment | None]:
    """The net that a prototxt holds itself, or an experiment's, with the phases they serve in."""
    from caffesplit.experiment import load
    from caffesplit.formats import prototxt
    from caffesplit.net import graph
    from caffesplit.net.solver import phases
    from caffesplit.study.files import is_net

    if is_net(target):
        return [(graph.build(prototxt.load(target), str(target)), set(graph.PHASES))], None
    experiment = load(target, root)
    nets: dict[int, tuple[Net, set[str]]] = {}
    for each in experiment.nets:
        nets.setdefault(id(each.net), (each.net, set()))[1].update(phases(each.field))
    return list(nets.values()), experiment


def _net_findings(net: Net, phases: set[str], images: Images) -> Iterator[Finding]:
    """What is wrong with a net in the phases in which it is used."""
    from caffesplit.net.check import check_net
    from caffesplit.net.findings import within

    yield from within(check_net(net, images), phases)


def _weight_findings(
    net: Net, stored: Sequence[LayerRecord], images: Images, trained: bool
) -> Iterator[Finding]:
    """Where the weights do not fit; the nets that only test need not have all of their layers."""
    from caffesplit.net.check import check_weights

    for finding in check_weights(net, {layer.name: layer.blobs for layer in stored}, images):
        if trained or not finding.warning:
            yield finding


def _training_findings(experiment: Experiment) -> Iterator[Finding]:
    """What is wrong with the nets as the solver trains and tests them, on data that is there."""
    from caffesplit.errors import Location
    from caffesplit.net.losses import check_trained
    from caffesplit.study.inputs import too_large_crops

    yield from check_trained(experiment.train_layers, Location(str(experiment.net_path)))
    yield from too_large_crops(experiment)


def _solver_findings(experiment: Experiment) -> tuple[Finding, ...]:
    from caffesplit.errors import NetError
    from caffesplit.net.findings import Finding, limited
    from caffesplit.net.solver_rules import check_solver

    findings = check_solver(experiment.solver_tree, str(experiment.solver_path))
    findings += limited(_missing_sources(experiment))
    try:
        experiment.check_tests()
    except NetError as error:
        message = f"{error.found}, expected {error.expected}"
        findings += (Finding("tested-nets", message, error.at),)
    return findings


def _missing_sources(experiment: Experiment) -> Iterator[Finding]:
    """Files and folders that the layers of any phase read from, and that do not exist."""
    from caffesplit.net.findings import Finding
    from caffesplit.net.sources import read_paths

    root = experiment.root.resolve()
    nets = {id(each.net): each.net for each in experiment.nets}
    for field, path in read_paths(layer for net in nets.values() for layer in net.layers):
        place = os.path.join(root, path)  # noqa: PTH118
        if not os.path.exists(place):  # noqa: PTH110 - a Path raises for names too long
            message = f'{field.name} "{path}" does not exist; expected {place}'
            yield Finding("present-sources", message, field.location(), True, path)
