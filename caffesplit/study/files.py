"""What derived and folded experiments have in common on disk: names, paths, records."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, count
from pathlib import Path

from caffesplit.experiment import Experiment, SolverNet
from caffesplit.formats import prototxt
from caffesplit.formats.prototxt import Message, Scalar, quote
from caffesplit.net import graph
from caffesplit.net.graph import Net
from caffesplit.net.solver import NetNode
from caffesplit.net.sources import named_paths, place_of
from caffesplit.split.solver_text import derived_solver

HASH_CHUNK = 1 << 22

STEMS = {"net": "train_val", "train_net": "train", "test_net": "test"}
"""A written net's file, by the solver's field that names it (or, with `_param`, holds it)."""


def is_net(path: Path) -> bool:
    """Whether the file holds a net, rather than a solver that names one.

    Raises:
        PrototxtError: if it is no prototxt.
    """
    if not path.is_file():
        return False
    tree = prototxt.load(path)
    return bool(tree.get("layer") or tree.get("layers"))


def file_names(nets: Sequence[SolverNet]) -> list[str]:
    """A name for each net's file: test.prototxt, test2.prototxt … where there are more of a kind.

    Nets of one file have one name.
    """
    names: dict[object, str] = {}
    for each in nets:
        stem = STEMS[each.field.removesuffix("_param")]
        numbered = (f"{stem}{number}.prototxt" for number in count(2))
        free = (
            name for name in chain([f"{stem}.prototxt"], numbered) if name not in names.values()
        )
        names.setdefault(_origin(each), next(free))
    return [names[_origin(each)] for each in nets]


def _origin(each: SolverNet) -> object:
    return each.path or id(each.node)


def deploy_net(experiment: Experiment) -> Net | None:
    """The net of the experiment's deploy.prototxt, where there is one."""
    path = experiment.deploy_path
    return graph.build(prototxt.load(path), str(path)) if path else None


def experiment_texts(
    experiment: Experiment,
    nets: Sequence[Net],
    deploy: Net | None,
    out: Path,
    assignments: Sequence[str] = (),
) -> dict[str, Message]:
    """The files of an experiment in `out`, by their names: `nets` in place of the experiment's
    own, its solver for them with `assignments` made, and deploy.prototxt where there is one.
    """
    texts, nodes = net_texts(experiment, nets, out)
    prefix = path_from_root(experiment, out, Path(experiment.snapshot_prefix).name)
    texts["solver.prototxt"] = derived_solver(experiment.solver_tree, nodes, prefix, assignments)
    return texts | ({} if deploy is None else {"deploy.prototxt": deploy.tree})


def net_texts(
    experiment: Experiment, derived: Sequence[Net], out: Path
) -> tuple[dict[str, Message], list[tuple[NetNode, NetNode]]]:
    """The derived nets' files, by their names in `out`, and what stands in the solver for each
    of the experiment's nets: a path, or the net itself where it stood there before.
    """
    names = net_files(experiment)
    texts: dict[str, Message] = {}
    nodes: list[tuple[NetNode, NetNode]] = []
    for each, net in zip(experiment.nets, derived, strict=True):
        text = relocated(experiment, net, out)
        if each.path is None:
            nodes.append((each.node, text))
        else:
            name = names[each.path]
            texts[name] = text
            nodes.append((each.node, Scalar(quote(path_from_root(experiment, out, name)))))
    return texts, nodes


def net_files(experiment: Experiment) -> dict[Path, str]:
    """The name that the file of each of the experiment's nets gets when it is written."""
    files = [each for each in experiment.nets if each.path is not None]
    return {
        each.path: name
        for each, name in zip(files, file_names(files), strict=True)
        if each.path is not None
    }


def path_from_root(experiment: Experiment, out: Path, name: str) -> str:
    """How a solver in `out` names a file beside it.

    As the base does if `out` lies below the base's root; otherwise from `out`, which is the
    derived experiment's root then and may be moved.
    """
    root = root_of(experiment, out)
    return name if root == out.resolve() else os.path.relpath(out.resolve() / name, root)


def root_of(experiment: Experiment, out: Path) -> Path:
    """The folder that the paths in an experiment in `out` start from, see `path_from_root`."""
    root = experiment.root.resolve()
    return root if out.resolve().is_relative_to(root) else out.resolve()


def relocated(experiment: Experiment, derived: Net, out: Path) -> Message:
    """The net's text; relative data paths made absolute where `out` is the new root and they
    would not name the same files from there.
    """
    root = experiment.root.resolve()
    if root_of(experiment, out) == root:
        return derived.tree
    moved = {}
    for field, path in named_paths(derived.layers):
        place = place_of(field, path)
        source, there = root / place, out / place
        if source.exists() and not (there.exists() and source.samefile(there)):
            # Not a Path: what a root_folder ends in belongs to it.
            moved[id(field)] = Scalar(quote(os.path.join(root, path)))  # noqa: PTH118
    return derived.tree.transformed(
        lambda field: field.with_value(moved[id(field)]) if id(field) in moved else field
    )


def versions() -> dict[str, str]:
    """What a record tells of the software that wrote it."""
    packages = ("caffesplit", "numpy", "protobuf")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
