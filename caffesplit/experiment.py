"""An experiment on disk: a solver, its net and its snapshots, and where their paths start from.

Caffe takes relative paths from the working directory. People call it from anywhere, and move
folders years later; so a solver's paths are also tried from the solver's folder and from that
folder's parents. The folder found is the experiment's `root`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, NetError, SnapshotError, listed
from caffesplit.formats import caffemodel, prototxt, schema, snapshots
from caffesplit.formats.snapshots import Snapshot
from caffesplit.metric.history import KERNEL_TYPES, Array, History, kernels_first
from caffesplit.net import graph
from caffesplit.net.graph import Layer, Net
from caffesplit.net.solver import NetNode, State, check_tests, net_nodes, nets_tested, train_state
from caffesplit.net.sources import named_paths


@dataclass(frozen=True)
class SolverNet:
    """One of the nets that a solver names, in `field`, or holds itself."""

    field: str
    node: NetNode
    """Its value in the solver's text."""
    path: Path | None
    """Its file; None for a net inside the solver."""
    net: Net


@dataclass(frozen=True)
class Experiment:
    """A solver with its nets, its files found."""

    solver_path: Path
    solver_tree: prototxt.Message
    solver: Any
    """SolverParameter, with Caffe's defaults."""
    root: Path
    nets: tuple[SolverNet, ...]
    """The one that is trained, then those that are only tested."""

    @property
    def net(self) -> Net:
        """The net that is trained."""
        return self.nets[0].net

    @property
    def net_path(self) -> Path:
        """The file that the net stands in: its own or, where the solver holds it, the solver."""
        return self.nets[0].path or self.solver_path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that tell what is trained and tested: the solver and its nets."""
        return tuple(
            dict.fromkeys((self.solver_path, *(each.path for each in self.nets if each.path)))
        )

    @property
    def uses(self) -> tuple[tuple[Net, State], ...]:
        """The net in the state in which it is trained, then each that is tested, in that one."""
        return (
            (self.net, train_state(self.solver, self.net)),
            *nets_tested(self.solver, [(each.field, each.net) for each in self.nets]),
        )

    def check_tests(self) -> None:
        """Raise NetError unless the solver says of each tested net for how many batches."""
        fields = [each.field for each in self.nets]
        check_tests(self.solver, fields, str(self.solver_path))

    @property
    def train_layers(self) -> tuple[Layer, ...]:
        """The layers of the net that is trained, as it is trained."""
        net, state = self.uses[0]
        return state.layers(net)

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
    def snapshot_prefix(self) -> str:
        """The path before `_iter_N`; Caffe HEAD's default is the solver's, without its ending."""
        prefix = self.solver.snapshot_prefix or os.path.relpath(
            self.solver_path.with_suffix(""), self.root
        )
        # Not a Path: "snapshots/" means files in that folder.
        return os.path.join(self.root, prefix)  # noqa: PTH118

    @property
    def snapshot_folder(self) -> Path:
        """The folder that snapshots are written into."""
        return Path(self.snapshot_prefix.rpartition("/")[0])

    def snapshots(self, prefix: str | None = None) -> tuple[Snapshot, ...]:
        """The snapshots, oldest first: at `prefix`, or where the solver has put them.

        A recorded prefix that is gone (the folder was moved) is also looked for under its last
        parts in the solver's folder. `prefix` is taken from the working directory, the root or
        the solver's folder, and may be just the folder that the snapshots lie in.

        Raises:
            SnapshotError: if there are none.
        """
        tried = list(dict.fromkeys(self._prefixes(prefix)))
        for candidate in tried:
            found = snapshots.find(candidate)
            if found:
                return found
        raise SnapshotError(
            "no snapshots",
            "files named " + " or ".join(f"{path}_iter_<N>.caffemodel" for path in tried),
            "Train first, or give their prefix: --snapshots PREFIX.",
            Location(str(self.solver_path)),
        )

    def _prefixes(self, given: str | None) -> Iterator[str]:
        own_name = self.snapshot_prefix.rpartition("/")[2]
        if given is None:
            yield self.snapshot_prefix
            for end in _ends(self.solver.snapshot_prefix):
                yield str(self.folder / end)
        else:
            for folder in (Path(), self.root, self.folder):
                place = folder / given
                yield f"{place}/{own_name}" if place.is_dir() else str(place)

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

    def moved(self, path: str) -> Path | None:
        """What a recorded path that is gone may be now: its last parts, from here."""
        here = (folder / end for end in _ends(path) for folder in (self.root, self.folder))
        return next((candidate for candidate in here if candidate.exists()), None)

    @property
    def kernel_layers(self) -> tuple[str, ...]:
        """The names of the trained layers that have kernels, in the net's order."""
        return tuple(dict.fromkeys(layer.name for layer in self._kernel_layers))

    @property
    def _kernel_layers(self) -> list[Layer]:
        return [layer for layer in self.train_layers if layer.type in KERNEL_TYPES]

    def history(self, prefix: str | None = None) -> History:
        """The kernels of every layer that has some, at every snapshot, mapped on access.

        Loading an iteration raises SnapshotError if its snapshot is not of this net.

        Raises:
            SnapshotError: if there are no snapshots.
        """
        paths = {snapshot.iteration: snapshot.path for snapshot in self.snapshots(prefix)}

        def load(iteration: int) -> dict[str, Array]:
            weights = caffemodel.read(paths[iteration])
            return {
                layer.name: self._kernels(layer, weights.get(layer.name), paths[iteration])
                for layer in self._kernel_layers
            }

        return History(tuple(paths), load)

    def _kernels(self, layer: Layer, blobs: list[Array] | None, path: Path) -> Array:
        """The layer's weights, kernels first, as many as it has outputs."""
        if layer.type == "InnerProduct":
            parameter, group = layer.message.inner_product_param, 1
            transpose = parameter.transpose
        else:
            parameter, transpose = layer.message.convolution_param, False
            group = layer.group
        kernels = kernels_first(blobs[0], layer.type, transpose, group) if blobs else None
        if kernels is None or len(kernels) != parameter.num_output:
            found = "no weights" if kernels is None else f"{len(kernels)} kernels"
            raise SnapshotError(
                f"{found} of layer {layer.name!r}",
                f"the {parameter.num_output} that {self.net_path} gives it",
                "Are these snapshots of another net? --snapshots PREFIX names others.",
                Location(str(path)),
            )
        return kernels


def load(
    exp: Path | str,
    root: Path | str | None = None,
    build: Callable[[prototxt.Message, str], Net] = graph.build,
) -> Experiment:
    """The experiment in a folder, or of a solver file.

    `build` makes a net of its text and the path that this is from.

    Raises:
        NetError: if there is no solver or no net to train, or more than one could be meant.
        PrototxtError: if a file does not parse.
    """
    solver_path = find_solver(Path(exp))
    tree = prototxt.load(solver_path)
    if tree.get("layer") or tree.get("layers"):
        raise NetError(
            "this is a net",
            "an experiment's folder, or its solver",
            "Give the folder, or the solver that names this net.",
            Location(str(solver_path)),
        )
    solver = schema.read(tree, "SolverParameter", str(solver_path)).message
    roots = [Path(root)] if root is not None else list(_candidate_roots(solver_path))
    nets: list[SolverNet] = []
    for field, node in net_nodes(tree, str(solver_path)):
        path = None
        if isinstance(node, prototxt.Scalar):
            found_root, path = _find_net(field, node, roots, solver_path)
            roots = [found_root]  # Where one of its paths starts from, all of them do.
        net = next((each.net for each in nets if path and each.path == path), None)
        if net is None:
            source = path or solver_path
            text = node if isinstance(node, prototxt.Message) else prototxt.load(source)
            net = build(text, str(source))
        nets.append(SolverNet(field, node, path, net))
    if len(roots) > 1:
        roots = [_likeliest(roots, nets, solver_path.parent, solver.snapshot_prefix)]
    return Experiment(solver_path, tree, solver, roots[0], tuple(nets))


def _likeliest(roots: Sequence[Path], nets: Sequence[SolverNet], folder: Path, prefix: str) -> Path:
    """The root of a solver that names no net's file: where its data is, or its snapshots would
    go into its own folder; otherwise the first.
    """
    sources = [Path(path) for each in nets for _, path in named_paths(each.net.layers)]
    relative = [path for path in sources if not path.is_absolute()]
    for root in roots:
        has_data = any(os.path.exists(root / path) for path in relative)  # noqa: PTH110
        if has_data or (prefix and (root / prefix).parent.resolve() == folder.resolve()):
            return root
    return roots[0]


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


def _candidate_roots(solver_path: Path) -> Iterator[Path]:
    """Where a solver's paths may start from, most likely first.

    The working directory comes first if the solver lies below it, which is how Caffe is called;
    otherwise last, since another project may well have files of the same names there.
    """
    here, folder = Path.cwd(), solver_path.resolve().parent
    around = (folder, *folder.parents)
    yield from (here, *around) if here in around else (*around, here)


def _find_net(
    field: str, node: prototxt.Scalar, roots: list[Path], solver_path: Path
) -> tuple[Path, Path]:
    """The first root below which the net exists, and the net.

    A net whose recorded path is gone (the folder was moved) is also looked for under the last
    parts of that path.
    """
    name = node.as_string()
    found = [(root, root / name) for root in roots if (root / name).is_file()]
    if found:
        _refuse_ambiguity(node, found, solver_path)
        return found[0]
    for root in roots:
        for end in _ends(name):
            if (root / end).is_file():
                return root, root / end
    shown = ", ".join(str(root) for root in roots[:4]) + (", …" if len(roots) > 4 else "")
    raise NetError(
        f'{field} "{name}" does not exist',
        f"a file below {'one of ' if len(roots) > 1 else ''}{shown}",
        "Give the folder its path starts from: --root DIR.",
        node.location(),
    )


def _ends(path: str) -> Iterator[Path]:
    """The path without its first part, without its first two, … down to its name."""
    parts = Path(path).parts
    return (Path(*parts[start:]) for start in range(1, len(parts)))


def _refuse_ambiguity(
    node: prototxt.Scalar, found: list[tuple[Path, Path]], solver_path: Path
) -> None:
    """Refuse to choose between the working directory's net and the solver's neighbour."""
    (first_root, first), folder = found[0], solver_path.resolve().parent
    beside = [path for root, path in found[1:] if root == folder]
    if beside and not first.samefile(beside[0]):
        raise NetError(
            f"two nets could be meant: {first} and {beside[0]}",
            "one",
            f"Say where the solver's paths start from: --root {first_root} or --root {folder}.",
            node.location(),
        )
