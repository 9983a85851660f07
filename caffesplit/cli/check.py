"""`caffesplit check`: hold a net, and weights, against the rules of what Caffe loads."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from caffesplit.cli import options


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

    What only a fork's Caffe may know (fields, layer types) is a warning, and no failure.
    """
    from caffesplit.formats import caffemodel
    from caffesplit.net import check

    net = options.load_net(target, root)
    findings = check.check_net(net)
    if weights is not None:
        findings += check.check_weights(net, caffemodel.read(weights))
    for finding in findings:
        click.echo(str(finding))
    errors = sum(not finding.warning for finding in findings)
    click.echo(
        f"{target}: {len(net.layers)} layers, {errors} errors, {len(findings) - errors} warnings"
    )
    sys.exit(1 if errors else 0)
