"""Writing an experiment anew, untrained: elsewhere, with other nets, solver fields or data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from caffesplit.experiment import Experiment
from caffesplit.formats import prototxt
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Field, Scalar, quote
from caffesplit.net import graph
from caffesplit.net.graph import Net
from caffesplit.net.sources import named_paths
from caffesplit.study.files import deploy_net, experiment_texts, root_of


def clone(
    experiment: Experiment,
    out: Path,
    assignments: Sequence[str] = (),
    shape: Experiment | None = None,
    sources: Mapping[str, Path] | None = None,
    force: bool = False,
) -> None:
    """Write the experiment's solver and nets, and no weights, into the folder `out`.

    `assignments` are set in the solver. `shape` is an experiment derived from this one, whose
    nets stand in place of its own. Of what the layers read, each path among `sources` gives way
    to the one that stands there for it.

    Raises:
        OutputError: if `out` holds these files already and `force` is false.
        PrototxtError: for an assignment that Caffe would not take.
    """
    source = shape or experiment
    root = root_of(experiment, out)
    paths = {path: _below(root, new) for path, new in (sources or {}).items()}
    nets = [_reading(each.net, paths) for each in source.nets]
    texts = experiment_texts(experiment, nets, deploy_net(source), out, assignments)
    inputs = [*experiment.paths, *source.paths]
    with replacing(*(out / name for name in texts), force=force, inputs=inputs) as staged:
        for path, tree in zip(staged, texts.values(), strict=True):
            path.write_bytes(prototxt.encode(tree))


def _below(root: Path, path: Path) -> str:
    """The path as one writes it in `root`: relative if it lies below."""
    path = path.resolve()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _reading(net: Net, sources: Mapping[str, str]) -> Net:
    """The net with other paths in place of those among `sources`."""
    moved = {
        id(field): Scalar(quote(sources[path]))
        for field, path in named_paths(net.layers)
        if path in sources
    }
    if not moved:
        return net

    def changed(field: Field) -> Field:
        return field.with_value(moved[id(field)]) if id(field) in moved else field

    return graph.build(net.tree.transformed(changed))
