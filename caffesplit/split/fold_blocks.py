"""Find the blocks of a net's graph that are linear, and reduce each to one map.

A block starts at one value and ends in a layer that joins branches, Concat or an Eltwise sum;
each branch is a sequence of linear layers whose values nobody else reads. Inner blocks are
reduced first, and then count as one layer, until nothing changes any more. A 1×1 layer right
behind a Concat belongs to the block: it mixes the channels that the branches made.

Sequences without a join are left alone unless asked for: they are the architecture that the
net's author chose. So is whatever would have more weights as one layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffesplit.net.graph import Layer, Net
from caffesplit.net.wiring import Top, Value, wire
from caffesplit.split import linear
from caffesplit.split.fold_rules import (
    refuse_other_axes,
    refuse_other_gradients,
    refuse_other_rules,
)
from caffesplit.split.fold_steps import CHANNELWISE, CONVOLVING, JOINS, Step, step
from caffesplit.split.linear import Blob, Linear, UnfoldableError

Weights = Mapping[str, Sequence[Blob]]


@dataclass(frozen=True)
class Scope:
    """What is folded besides blocks of branches."""

    batch_norms: bool = False
    """BatchNorm, Scale and Bias behind a convolution or InnerProduct."""
    chains: bool = False
    """Sequences of convolutions, or of InnerProducts, where one layer has no more weights."""


@dataclass(frozen=True)
class Block:
    """Layers that are one layer together: its map, from `source` to the last one's top."""

    layers: tuple[Layer, ...]
    map: Linear
    is_joined: bool
    """Whether branches are joined in it (otherwise it is a sequence)."""


@dataclass(frozen=True)
class Obstacle:
    """A join, or a layer asked for, that stays, and why."""

    layer: Layer
    reason: str


def blocks(
    net: Net, weights: Weights, scope: Scope, kept: frozenset[str] = frozenset()
) -> tuple[tuple[Block, ...], tuple[Obstacle, ...]]:
    """The largest blocks of a net that are linear, in file order, and what was left alone.

    Layers whose names are in `kept` are taken for not linear.
    """
    graph = _Graph(net, weights, kept)
    obstacles = graph.reduce_all(scope)
    found = [node for node in graph.nodes() if len(node.members) > 1 and node.map is not None]
    return tuple(graph.block(node) for node in found), obstacles


@dataclass(frozen=True)
class _Node:
    """One layer, or several that were reduced to one; `members` are positions in the net."""

    members: tuple[int, ...]
    bottoms: tuple[Value, ...]
    step: Step | None
    obstacle: str = ""
    map: Linear | None = None
    is_joined: bool = False
    count: int = 0
    """Weights of the kernels in it, as it stands in the net."""

    @property
    def last(self) -> int:
        return self.members[-1]


@dataclass(frozen=True)
class _Path:
    """A branch, backwards: the values on it, and between them the nodes, with the top taken."""

    values: tuple[Value, ...]
    nodes: tuple[tuple[_Node, int], ...]
    end: str
    """Why it goes no further."""

    def until(self, source: Value) -> _Path:
        length = self.values.index(source)
        return _Path(self.values[: length + 1], self.nodes[:length], self.end)


class _Graph:
    """The net's layers as nodes; reducing replaces several by one under the last one's position."""

    def __init__(self, net: Net, weights: Weights, kept: frozenset[str]) -> None:
        self.net, self.weights = net, weights
        wiring = wire(net)
        self._states = wiring.states
        self._nodes: dict[int, _Node] = {}
        self._readers: dict[Top, set[tuple[int, int]]] = defaultdict(set)
        for index, layer in enumerate(net.layers):
            self._add(self._node(index, layer, wiring.bottoms[index], layer.name in kept))

    def nodes(self) -> list[_Node]:
        """In file order of their last layers."""
        return [self._nodes[index] for index in sorted(self._nodes)]

    def block(self, node: _Node) -> Block:
        assert node.map is not None
        layers = tuple(self.net.layers[index] for index in node.members)
        return Block(layers, node.map, node.is_joined)

    def reduce_all(self, scope: Scope) -> tuple[Obstacle, ...]:
        """Reduce until nothing changes; what stays of the kinds in scope, and why."""
        while True:
            obstacles, changed = [], False
            for index in sorted(self._nodes):
                node = self._nodes.get(index)
                if node is None:
                    continue
                if node.map is not None:
                    changed |= self._absorb(node, node.map)
                elif self._is_in_scope(node, scope):
                    try:
                        self._reduce(node)
                        changed = True
                    except UnfoldableError as error:
                        obstacles.append(Obstacle(self.net.layers[node.last], str(error)))
            if not changed:
                return tuple(obstacles)

    def _node(self, index: int, layer: Layer, bottoms: tuple[Value, ...], is_kept: bool) -> _Node:
        blobs = self.weights.get(layer.name, ())
        count = blobs[0].size if blobs and layer.type in CONVOLVING else 0
        try:
            if is_kept:
                raise UnfoldableError("it is not the same in all nets and phases")
            return _Node((index,), bottoms, step(layer, blobs), count=count)
        except UnfoldableError as error:
            return _Node((index,), bottoms, None, str(error), count=count)

    def _add(self, node: _Node) -> None:
        self._nodes[node.last] = node
        for position, value in enumerate(node.bottoms):
            for top in value:
                self._readers[top].add((node.last, position))

    def _remove(self, node: _Node) -> None:
        del self._nodes[node.last]
        for position, value in enumerate(node.bottoms):
            for top in value:
                self._readers[top].discard((node.last, position))

    def _is_in_scope(self, node: _Node, scope: Scope) -> bool:
        layer = self.net.layers[node.last]
        if layer.type in JOINS:
            return len(layer.bottoms) > 1
        if layer.type in CHANNELWISE:
            return scope.batch_norms
        return scope.chains and layer.type in CONVOLVING and self._follows_convolution(node)

    def _follows_convolution(self, node: _Node) -> bool:
        before = self._producer(node.bottoms[0]) if len(node.bottoms) == 1 else None
        return before is not None and before.step is not None and self._convolves(before)

    def _reduce(self, node: _Node) -> None:
        if self.net.layers[node.last].type in JOINS:
            self._reduce_join(node)
        else:
            self._reduce_sequence(node)

    def _reduce_join(self, join: _Node) -> None:
        layer = self.net.layers[join.last]
        parameter = layer.message.eltwise_param
        if layer.type == "Eltwise" and parameter.operation != parameter.SUM:
            raise UnfoldableError("it is no sum")
        if layer.message.loss_weight or layer.message.propagate_down:
            raise UnfoldableError("it has a loss_weight or propagate_down of its own")
        paths = self._paths(join)
        members = {node.last: node for path in paths for node, _ in path.nodes}
        self._refuse_other_readers(paths)
        own, source = self._joined(join, paths), paths[0].values[-1]
        joined = _Node(self._members([*members.values(), join]), (source,), None)
        if not self._absorb(joined, own):
            self._replace([*members.values(), join], source, own, is_joined=True)

    def _absorb(self, joined: _Node, own: Linear) -> bool:
        """Take the 1×1 layer right behind a block's Concat into the block, if there is one."""
        follower = self._follower(joined)
        if follower is None or follower.step is None:
            return False
        nodes = [self._nodes[index] for index in joined.members if index in self._nodes]
        try:
            mixed = linear.then(own, follower.step.map(own.outputs, len(own.axes), 0))
            self._replace([*nodes, follower], joined.bottoms[0], mixed, is_joined=True)
        except UnfoldableError:
            return False
        return True

    def _reduce_sequence(self, node: _Node) -> None:
        """The node and the convolution before it."""
        path = self._path(node, node.bottoms[0])
        if not path.nodes:
            raise UnfoldableError(f"before it {path.end}")
        before, top = path.nodes[0]
        if node.step is None:
            raise UnfoldableError(node.obstacle)
        if not self._convolves(before):
            raise UnfoldableError(f"no convolution before it, but {self._described(before)}")
        refuse_other_axes([before.step, node.step])
        first = self._composed([(before, top)], None, None)
        own = linear.then(first, node.step.map(first.outputs, len(first.axes), 0))
        self._replace([before, node], before.bottoms[0], own, is_joined=before.is_joined)

    def _paths(self, join: _Node) -> list[_Path]:
        """The join's branches, back to the nearest value that all of them come from."""
        paths = [self._path(join, value) for value in join.bottoms]
        for source in paths[0].values:
            if all(source in path.values for path in paths):
                return [path.until(source) for path in paths]
        ends = dict.fromkeys(path.end for path in paths if not self._is_fork(path.values[-1]))
        ends = ends or dict.fromkeys(path.end for path in paths)
        first, *others = ends
        more = f", and {len(others)} more such ends" if len(others) > 1 else ""
        raise UnfoldableError(f"on its branches {' and '.join([first, *others][:2])}{more}")

    def _path(self, reader: _Node, value: Value) -> _Path:
        values: list[Value] = [value]
        nodes: list[tuple[_Node, int]] = []
        while True:
            end = self._end(reader, value)
            if end:
                return _Path(tuple(values), tuple(nodes), end)
            ((index, top),) = value
            node = self._nodes[index]
            nodes.append((node, top))
            value = node.bottoms[0]
            values.append(value)

    def _end(self, reader: _Node, value: Value) -> str:
        """Why a path ends at `value`, if it does."""
        if len(value) != 1:
            return "each phase has a layer of its own"
        ((index, top),) = value
        name = self._blob_name((index, top))
        if index < 0:
            return f"{name!r} is an input of the net"
        node = self._nodes[index]
        if node.step is None:
            return f"is {self._described(node)}: {node.obstacle}"
        if len(self._readers[index, top]) != 1:
            return f"{name!r} is read by {len(self._readers[index, top])} layers"
        if self._states[index] != self._states[reader.last]:
            return f"is {self._described(node)}, in other phases"
        return ""

    def _is_fork(self, value: Value) -> bool:
        return any(len(self._readers[top]) > 1 for top in value)

    def _refuse_other_readers(self, paths: Sequence[_Path]) -> None:
        """A Slice or Split belongs to a block if all of its tops do."""
        taken = {(node.last, top) for path in paths for node, top in path.nodes}
        for index, _ in taken:
            layer = self.net.layers[index]
            if any((index, top) not in taken for top in range(len(layer.tops))):
                raise UnfoldableError(f"layer {layer.name!r} has readers outside the block")

    def _follower(self, join: _Node) -> _Node | None:
        """The 1×1 layer right behind a Concat, if there is one that alone reads it."""
        readers = self._readers[join.last, 0]
        if self.net.layers[join.last].type != "Concat" or len(readers) != 1:
            return None
        ((index, _),) = readers
        node = self._nodes[index]
        same = self._states[index] == self._states[join.last]
        if not same or node.step is None or not self._convolves(node):
            return None
        own = node.step.map(0, 0, 0)
        plain = own.is_pointwise and all(axis.stride == 1 for axis in own.axes)
        return node if plain else None

    def _joined(self, join: _Node, paths: Sequence[_Path]) -> Linear:
        layer = self.net.layers[join.last]
        steps = [node.step for path in paths for node, _ in path.nodes]
        refuse_other_axes(steps)
        axes = {each.axes for each in steps if each is not None} - {None}
        channels = next(filter(None, map(_channels_read, paths)), None)
        if not axes or channels is None:
            raise UnfoldableError("there is no convolution on its branches")
        maps = [self._composed(path.nodes[::-1], channels, axes.copy().pop()) for path in paths]
        if layer.type == "Eltwise":
            factors = list(layer.message.eltwise_param.coeff)
            return linear.summed(maps, factors or [1.0] * len(maps))
        parameter = layer.message.concat_param
        axis = parameter.concat_dim if parameter.HasField("concat_dim") else parameter.axis
        if {axis} != {each.channel_axis for each in steps if each is not None} - {None}:
            raise UnfoldableError(f"it joins on axis {axis}, not on the channels' axis")
        return linear.stacked(maps)

    def _composed(
        self, nodes: Sequence[tuple[_Node, int]], channels: int | None, axes: int | None
    ) -> Linear:
        """What the nodes compute, one after the other."""
        own: Linear | None = None
        for node, top in nodes:
            assert node.step is not None
            read = node.step.channels or channels or 0
            spatial = len(own.axes) if own else axes or 0
            each = node.step.map(own.outputs if own else read, spatial, top)
            own = linear.then(own, each) if own else each
        return own or linear.identity(channels or 0, axes or 0)

    def _replace(self, nodes: Sequence[_Node], source: Value, own: Linear, is_joined: bool) -> None:
        count = sum(node.count for node in nodes)
        layers = [self.net.layers[index] for node in nodes for index in node.members]
        refuse_other_rules(layers)
        refuse_other_gradients(layers, {self._blob_name(top) for top in source})
        if own.count > count:
            raise UnfoldableError(
                f"one layer would have {own.count:,} weights, these have {count:,}"
            )
        for node in nodes:
            self._remove(node)
        members = self._members(nodes)
        axis = max(
            (a for n in nodes if n.step and (a := n.step.channel_axis) is not None), default=1
        )
        whole = Step(lambda channels, axes, top: own, own.channels, len(own.axes), axis)
        self._add(_Node(members, (source,), whole, "", own, is_joined, count))

    def _members(self, nodes: Sequence[_Node]) -> tuple[int, ...]:
        return tuple(sorted(index for node in nodes for index in node.members))

    def _convolves(self, node: _Node) -> bool:
        return any(self.net.layers[index].type in CONVOLVING for index in node.members)

    def _producer(self, value: Value) -> _Node | None:
        if len(value) != 1:
            return None
        ((index, _),) = value
        return self._nodes.get(index)

    def _described(self, node: _Node) -> str:
        layer = self.net.layers[node.last]
        return f"layer {layer.name!r} ({layer.type})"

    def _blob_name(self, top: Top) -> str:
        index, position = top
        names = self.net.inputs if index < 0 else self.net.layers[index].tops
        return names[position]


def _channels_read(path: _Path) -> int | None:
    """The channels at the path's start, if the layers on it tell."""
    channels = None
    for node, top in path.nodes:
        assert node.step is not None
        if node.step.channels is not None:
            channels = node.step.channels
        elif channels is not None:
            channels = node.step.read(channels, top)
    return channels
