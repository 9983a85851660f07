"""`caffesplit convert`: weights, and a net with them, in the form that BVLC's Caffe reads."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.net.graph import Net

file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(short_help="Write NVCaffe's models, and HDF5, as BVLC's Caffe reads them.")
@click.argument("model", metavar="MODEL", type=file)
@options.output("OUT", "The weights to write: HDF5 if the name ends in .h5, else BINARYPROTO.")
@click.option("--net", "net_path", type=file, metavar="NET", help="The model's net, to convert.")
@click.option(
    "--net-output",
    "net_out",
    type=options.OutputType(),
    metavar="OUT_NET",
    help="Where to write the converted net.",
)
@options.force
def command(
    model: Path, out: Path, net_path: Path | None, net_out: Path | None, force: bool
) -> None:
    """Write the weights of MODEL in float32, and NVCaffe's layers as BVLC's Caffe has them.

    A BatchNorm of NVCaffe's with scale and bias becomes a BatchNorm and a Scale layer, in the
    weights and in NET. A BatchNorm of NET without `eps` gets BVLC's 1e-05, which is NVCaffe's
    too since 0.16.3 (in 0.16.1 and 0.16.2 it was 1e-04: write it into NET). Exit code 1 if NET
    breaks a rule of BVLC's Caffe afterwards.
    """
    from caffesplit.formats import caffemodel, hdf5, nvcaffe, prototxt
    from caffesplit.formats.output import check_targets, replacing
    from caffesplit.net import graph
    from caffesplit.net.findings import counted

    inputs = [path for path in (model, net_path) if path]
    outputs = [path for path in (out, net_out) if path]
    if len(inputs) != len(outputs):
        raise click.UsageError("Give --net and --net-output together, or neither.")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise click.UsageError("OUT and OUT_NET are one file; give them different names.")
    check_targets(outputs, force, inputs)
    weights = caffemodel.read(model)
    tree = graph.build(prototxt.load(net_path), str(net_path)).tree if net_path else None
    conversion = nvcaffe.convert(weights, tree)
    with ExitStack() as complete:
        if conversion.tree and net_out:
            (staged,) = complete.enter_context(replacing(net_out, force=force, inputs=inputs))
            staged.write_bytes(prototxt.encode(conversion.tree))
        caffemodel.splice(model, out, conversion.replacements, force)
    for note in conversion.notes:
        click.echo(note)
    if conversion.scales and not tree:
        click.echo("the net needs the same Scale layers: give it with --net and --net-output")
    layers = sum(len(conversion.replacements.get(name, [name])) for name in weights)
    kind = "HDF5" if hdf5.is_wanted(out) else "BINARYPROTO"
    click.echo(f"{out}: {kind}, {counted(layers, 'layer')} with blobs")
    if conversion.tree:
        sys.exit(_check(graph.build(conversion.tree, str(net_path)), out))


def _check(net: Net, out: Path) -> int:
    """Say what BVLC's Caffe may not like of the converted pair; 1 if it breaks a rule."""
    from caffesplit.formats import caffemodel
    from caffesplit.net import check

    stored = {layer.name: layer.blobs for layer in caffemodel.index(out).layers}
    findings = (*check.check_net(net), *check.check_weights(net, stored))
    for finding in findings:
        click.echo(str(finding))
    return int(any(not finding.warning for finding in findings))
