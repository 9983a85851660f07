"""A net as a drawing has it: boxes, each a layer with those in place on it, and edges between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from caffesplit.net.graph import Net
from caffesplit.net.partial import Partial
from caffesplit.net.shapes import Shapes
from caffesplit.net.wiring import Top, Wiring, wire

Box = tuple[int, ...]
"""Positions in the net: a layer, those that work in place on its top, and, for data, those that
stand for it in another phase."""


@dataclass(frozen=True)
class Edge:
    """A blob on its way from one box to another, both by the position of their first layer."""

    source: int
    target: int
    blob: str
    shape: Partial | None


@dataclass(frozen=True)
class Diagram:
    """Boxes in the net's order, the edges between them, and the tops that nobody reads."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    """From a box to itself."""

    def main_path(self) -> frozenset[tuple[int, int]]:
        """The longest way through the net, as pairs of boxes, by their first layers."""
        length = {box[0]: 0 for box in self.boxes}
        before: dict[int, int] = {}
        for edge in sorted(self.edges, key=lambda edge: edge.target):
            if length[edge.source] + 1 > length[edge.target]:
                length[edge.target] = length[edge.source] + 1
                before[edge.target] = edge.source
        end = max(length, key=lambda first: length[first], default=-1)
        path = set()
        while end in before:
            path.add((before[end], end))
            end = before[end]
        return frozenset(path)


def diagram(net: Net, shapes: Iterable[Shapes]) -> Diagram:
    """The layers that are present in any of the states of `shapes`, as boxes.

    Where a blob has a shape in several of them, the first one's is taken. The net has no
    `input`: those of old nets are upgraded to Input layers before.
    """
    shapes = tuple(shapes)
    present = sorted({index for each in shapes for index in each.tops})
    wiring = wire(net)
    home = _homes(net, wiring, present)
    edges: dict[tuple[int, int, str], Edge] = {}
    read: set[Top] = set()
    for index in present:
        for name, value in zip(net.layers[index].bottoms, wiring.bottoms[index], strict=True):
            for top in sorted(value):
                read.add(top)
                if top[0] in home and home[top[0]] != home[index]:
                    edge = Edge(home[top[0]], home[index], name, _shape(shapes, top))
                    edges.setdefault((edge.source, edge.target, name), edge)
    boxes: dict[int, list[int]] = {}
    for index in present:
        boxes.setdefault(home[index], []).append(index)
    outputs = [
        Edge(home[index], home[index], name, _shape(shapes, (index, position)))
        for index in present
        for position, name in enumerate(net.layers[index].tops)
        if (index, position) not in read
    ]
    return Diagram(tuple(map(tuple, boxes.values())), tuple(edges.values()), tuple(outputs))


def _homes(net: Net, wiring: Wiring, present: Iterable[int]) -> dict[int, int]:
    """For each layer the first one of its box."""
    readers = wiring.readers()
    home: dict[int, int] = {}
    sources: dict[tuple[str, tuple[str, ...]], int] = {}
    for index in present:
        layer = net.layers[index]
        home[index] = index
        if not layer.bottoms:
            first = sources.setdefault((layer.name, layer.tops), index)
            if not wiring.states[first] & wiring.states[index]:
                home[index] = first
        if len(layer.tops) != 1 or layer.tops != layer.bottoms:
            continue
        made = [top for top in wiring.bottoms[index][0] if top[0] in home]
        if len(made) == 1 and not _is_read_before(wiring, readers[made[0]], index):
            home[index] = home[made[0][0]]
    return home


def _is_read_before(wiring: Wiring, readers: Iterable[tuple[int, int]], index: int) -> bool:
    """Whether any of the readers, in a state that has layer `index` too, reads past it."""
    return any(
        reader != index
        and wiring.states[reader] & wiring.states[index]
        and (index, 0) not in wiring.bottoms[reader][position]
        for reader, position in readers
    )


def _shape(shapes: Iterable[Shapes], top: Top) -> Partial | None:
    index, position = top
    return next((each.tops[index][position] for each in shapes if index in each.tops), None)
