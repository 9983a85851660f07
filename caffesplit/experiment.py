"""An experiment on disk: a solver, its net and its snapshots, and where their paths start from.

Caffe takes relative paths from the working directory. People call it from anywhere, and move
folders years later; so a solver's paths are tried from the working directory, then from the
solver's folder, then from that folder's parents. The folder found is the experiment's `root`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, NetError, SnapshotError, listed
from caffesplit.formats import caffemodel, prototxt, schema, snapshots
from caffesplit.formats.snapshots import Snapshot
from caffesplit.metric.history import KERNEL_TYPES, Array, History, kernels_first
from caffesplit.net import graph
from caffesplit.net.graph import Layer, Net

PATH_FIELDS = {
    "data_param": ("source",),
    "image_data_param": ("source", "root_folder", "mean_file"),
    "hdf5_data_param": ("source",),
    "window_data_param": ("source", "root_folder", "mean_file"),
    "transform_param": ("mean_file",),
}
"""Fields of a layer that name files or folders, by the message that holds them."""


@dataclass(frozen=True)
class Experiment:
    """A solver with its net, its files found."""

    solver_path: Path
    solver_tree: prototxt.Message
    solver: Any
    """SolverParameter, with Caffe's defaults."""
    root: Path
    net_path: Path
    net: Net

    @property
    def folder(self) -> Path:
        return self.solver_path.parent

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def deploy_path(self) -> Path | None:
        """The deploy.prototxt beside the net, where there is one."""
        path = self.net_path.with_name("deploy.prototxt")
        return path if path.is_file() else None

    @property
    def snapshot_prefix(self) -> Path:
        """`snapshot_prefix`, or the solver's path without its ending (Caffe HEAD's default)."""
        prefix = self.solver.snapshot_prefix or os.path.relpath(
            self.solver_path.with_suffix(""), self.root
        )
        return self.root / prefix

    def snapshots(self, prefix: str | None = None) -> tuple[Snapshot, ...]:
        """The snapshots, oldest first; searched beside the solver if not at the prefix.

        Raises:
            SnapshotError: if there are none.
        """
        tried = (
            [Path(prefix)]
            if prefix
            else [self.snapshot_prefix, self.folder / self.snapshot_prefix.name]
        )
        for candidate in tried:
            found = snapshots.find(candidate)
            if found:
                return found
        raise SnapshotError(
            "no snapshots",
            "files named " + " or ".join(f"{path}_iter_<N>.caffemodel" for path in tried),
            "Train first, or give their prefix: --snapshots PREFIX.",
            Location(str(self.solver_path)),
        )  # fmt: skip

    def weights_path(self, choice: str | int, prefix: str | None = None) -> Path:
        """The weight file of `choice`: an iteration, or a path.

        Raises:
            SnapshotError: if there is neither such a file nor a snapshot of that iteration.
        """
        if isinstance(choice, str) and not choice.isdecimal():
            if Path(choice).is_file():
                return Path(choice)
            raise SnapshotError(
                "no such file", "a weight file, or an iteration", at=Location(choice)
            )
        available = self.snapshots(prefix)
        for snapshot in available:
            if snapshot.iteration == int(choice):
                return snapshot.path
        raise SnapshotError(
            f"no snapshot of iteration {choice}",
            "one that exists",
            f"There are snapshots at {listed([each.iteration for each in available])}.",
            Location(str(self.solver_path)),
        )

    @property
    def kernel_layers(self) -> tuple[str, ...]:
        """The names of the layers that have kernels, in the net's order, each once."""
        names = (layer.name for layer in self.net.layers if layer.type in KERNEL_TYPES)
        return tuple(dict.fromkeys(names))

    def history(self, prefix: str | None = None) -> History:
        """The kernels of every layer that has some, at every snapshot, mapped on access.

        Raises:
            SnapshotError: if there are no snapshots.
        """
        paths = {snapshot.iteration: snapshot.path for snapshot in self.snapshots(prefix)}

        def load(iteration: int) -> dict[str, Array]:
            weights = caffemodel.read(paths[iteration])
            return {
                layer.name: _kernels(layer, weights[layer.name][0])
                for layer in self.net.layers
                if layer.type in KERNEL_TYPES and layer.name in weights
            }

        return History(tuple(paths), load)


def _kernels(layer: Layer, weight: Array) -> Array:
    if layer.type == "InnerProduct":
        return kernels_first(weight, layer.type, layer.message.inner_product_param.transpose)
    return kernels_first(weight, layer.type, group=layer.message.convolution_param.group)


def load(exp: Path | str, root: Path | str | None = None) -> Experiment:
    """The experiment in a folder, or of a solver file.

    Raises:
        NetError: if there is no solver or no net, or more than one of them could be meant.
        PrototxtError: if a file does not parse.
    """
    solver_path = find_solver(Path(exp))
    tree = prototxt.load(solver_path)
    solver = schema.read(tree, "SolverParameter", str(solver_path)).message
    field = tree.get("net")
    if field is None or not solver.net:
        raise NetError(
            "a solver without `net`",
            'the path of the net, as in net: "train_val.prototxt"',
            "Write the net into one file and name it in `net`.",
            Location(str(solver_path)),
        )
    roots = [Path(root)] if root is not None else list(_candidate_roots(solver_path))
    found_root, net_path = _find_net(field, solver.net, roots, solver_path)
    net = graph.build(prototxt.load(net_path), str(net_path))
    return Experiment(solver_path, tree, solver, found_root, net_path, net)


def find_solver(exp: Path) -> Path:
    """The solver prototxt `exp` is, or holds.

    Raises:
        NetError: if there is none, or several of which none is named solver.prototxt.
    """
    if exp.is_file():
        return exp
    if not exp.is_dir():
        raise NetError(
            "no such file or folder", "an experiment's folder or its solver", at=Location(str(exp))
        )
    candidates = sorted(exp.glob("*.prototxt"))
    named = [path for path in candidates if "solver" in path.name.lower()]
    if exp / "solver.prototxt" in named:
        return exp / "solver.prototxt"
    if len(named) == 1:
        return named[0]
    listing = ", ".join(path.name for path in named or candidates) or "no prototxt at all"
    raise NetError(
        f"{len(named)} solvers ({listing})",
        "one, named solver.prototxt",
        "Name the solver file itself, in place of the folder.",
        Location(str(exp)),
    )


def named_paths(net: Net) -> Iterator[tuple[prototxt.Field, str]]:
    """The fields of a net that name files or folders, with their values."""
    for layer in net.layers:
        for holder in _fields(layer.field):
            for field in _fields(holder):
                is_path = field.name in PATH_FIELDS.get(holder.name, ())
                value = field.value
                if is_path and isinstance(value, prototxt.Scalar) and value.as_string():
                    yield field, value.as_string()


def _fields(field: prototxt.Field) -> tuple[prototxt.Field, ...]:
    return field.value.fields if isinstance(field.value, prototxt.Message) else ()


def _candidate_roots(solver_path: Path) -> Iterator[Path]:
    yield Path.cwd()
    folder = solver_path.resolve().parent
    yield folder
    yield from folder.parents


def _find_net(
    field: prototxt.Field, name: str, roots: list[Path], solver_path: Path
) -> tuple[Path, Path]:
    """The first root below which the net exists, and the net.

    A net whose recorded path is gone (the folder was moved) is also looked for under the last
    parts of that path.
    """
    found = [(root, root / name) for root in roots if (root / name).is_file()]
    if found:
        _refuse_ambiguity(field, found, solver_path)
        return found[0]
    parts = Path(name).parts
    for start in range(1, len(parts)):
        for root in roots[1:] or roots:
            moved = root.joinpath(*parts[start:])
            if moved.is_file():
                return root, moved
    shown = ", ".join(str(root) for root in roots[:4]) + (", …" if len(roots) > 4 else "")
    raise NetError(
        f'net "{name}" does not exist',
        f"a file below one of {shown}",
        "Give the folder its path starts from: --root DIR.",
        field.location(),
    )


def _refuse_ambiguity(
    field: prototxt.Field, found: list[tuple[Path, Path]], solver_path: Path
) -> None:
    """Refuse to choose between the working directory's net and the solver's neighbour."""
    (first_root, first), folder = found[0], solver_path.resolve().parent
    beside = [path for root, path in found[1:] if root == folder]
    if beside and not first.samefile(beside[0]):
        raise NetError(
            f"two nets could be meant: {first} and {beside[0]}",
            "one",
            f"Say where the solver's paths start from: --root {first_root} or --root {folder}.",
            field.location(),
        )
