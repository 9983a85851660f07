"""Upgrading an experiment of an older Caffe: its solver and all of its nets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caffesplit.errors import SnapshotError
from caffesplit.experiment import Experiment, load
from caffesplit.formats import prototxt
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Message, quote
from caffesplit.net import graph
from caffesplit.net.graph import Net
from caffesplit.net.solver import NetNode, with_nodes
from caffesplit.net.upgrade import upgrade_net, upgrade_solver
from caffesplit.net.upgrade_rules import Upgrade
from caffesplit.study.files import net_files, net_texts, path_from_root
from caffesplit.study.upgrade import Upgraded

Account = Mapping[int, Upgrade[Message]]
"""Identity of a net → what was done to its text."""


def upgrade_experiment(
    exp: Path, out: Path, root: Path | str | None = None, force: bool = False
) -> tuple[Upgraded, ...]:
    """Write an experiment in today's format into the folder `out`; what was done to each file.

    `out` gets solver.prototxt and the nets under the names that `derive` gives them (and
    deploy.prototxt where there is one): all of them or, on any error, none. The snapshots stay
    where they are; those of a new training will go into `out`.

    Raises:
        NetError, PrototxtError: as from `experiment.load`, and for what Caffe refuses to upgrade.
        OutputError: if `out` holds these files already and `force` is false, or one of them is
            the experiment's own.
    """
    account: dict[int, Upgrade[Message]] = {}

    def build(tree: Message, path: str) -> Net:
        made = upgrade_net(tree, path)
        net = graph.build(made.result, path)
        account[id(net)] = made
        return net

    experiment = load(exp, root, build)
    texts, nodes = net_texts(experiment, [each.net for each in experiment.nets], out)
    nets = {each.path: each.net for each in experiment.nets if each.path}
    names = net_files(experiment)
    deploy = experiment.deploy_path
    if deploy is not None:
        nets[deploy], names[deploy] = build(prototxt.load(deploy), str(deploy)), "deploy.prototxt"
        texts["deploy.prototxt"] = nets[deploy].tree
    done = [_upgraded(out / names[path], path, "net", account[id(nets[path])]) for path in nets]
    solver, name = _solver(experiment, nodes, out, account), "solver.prototxt"
    texts[name] = solver.result
    done.append(_upgraded(out / name, experiment.solver_path, "solver", solver))

    inputs = [each.source for each in done]
    with replacing(*(out / name for name in texts), force=force, inputs=inputs) as staged:
        for text, target in zip(texts.values(), staged, strict=True):
            target.write_bytes(prototxt.encode(text))
    return tuple(done)


def _upgraded(path: Path, source: Path, kind: str, made: Upgrade[Message]) -> Upgraded:
    return Upgraded(path, source, kind, made.steps, made.findings)


def _solver(
    experiment: Experiment, nodes: list[tuple[NetNode, NetNode]], out: Path, account: Account
) -> Upgrade[Message]:
    """The solver for the nets in `out`, and for the snapshots."""
    moved = with_nodes(experiment.solver_tree, nodes)
    made = upgrade_solver(moved, str(experiment.solver_path))
    steps, findings = list(made.steps), list(made.findings)
    for each in experiment.nets:
        if each.path is not None:
            steps.append(each.field)
        else:
            inside = account[id(each.net)]
            steps += [f"{step} of {each.field}" for step in inside.steps]
            findings += inside.findings
    prefix = _snapshot_prefix(experiment, out)
    if prefix != experiment.solver.snapshot_prefix:
        steps.append("snapshot_prefix")
    result = made.result.with_field_set("snapshot_prefix", quote(prefix))
    return Upgrade(result, tuple(dict.fromkeys(steps)), tuple(findings))


def _snapshot_prefix(experiment: Experiment, out: Path) -> str:
    """What stands in `out` for the solver's prefix: at the same place below it as that is below
    the experiment's folder or, where that lies elsewhere, in `out` itself.
    """
    recorded, _, name = experiment.snapshot_prefix.rpartition("/")
    try:
        folder = experiment.snapshots()[0].path.parent  # The recorded one may be gone.
    except SnapshotError:
        folder = Path(recorded)
    folder, own = folder.resolve(), experiment.folder.resolve()
    if folder.is_relative_to(own):
        place = folder.relative_to(own) / name
    else:
        place = Path(name or folder.name)
    # A prefix "snapshots/" means files in that folder.
    return path_from_root(experiment, out, str(place)) + ("" if name else "/")
