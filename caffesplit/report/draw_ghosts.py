"""Layers that only the base has, placed in the drawing of the net."""

from __future__ import annotations

from collections.abc import Iterator

from caffesplit.report.draw_boxes import Box, Edge
from caffesplit.report.draw_change import Change
from caffesplit.report.draw_scene import Scene


def node_id(index: int) -> str:
    """The box of the layer at that position in the net."""
    return f"layer{index}"


def ghost_id(index: int) -> str:
    """The box of the layer at that position in the base."""
    return f"base{index}"


def ghost_boxes(before: Scene, change: Change) -> tuple[Box, ...]:
    """The boxes of the base, of each the layers that were removed."""
    removed = set(change.removed)
    left = (tuple(index for index in box if index in removed) for box in before.diagram.boxes)
    return tuple(box for box in left if box)


def ghost_edges(shown: Scene, before: Scene, change: Change) -> Iterator[tuple[str, str, Edge]]:
    """The base's edges from and to removed layers, between the boxes that are drawn."""
    homes = {index: box[0] for box in shown.diagram.boxes for index in box}
    ends = {
        box[0]: node_id(homes[change.kept[box[0]]]) if box[0] in change.kept else ghost_id(box[0])
        for box in before.diagram.boxes
    }
    removed = set(change.removed)
    for edge in before.diagram.edges:
        if removed & {edge.source, edge.target}:
            yield ends[edge.source], ends[edge.target], edge
    for box in ghost_boxes(before, change):
        home = next(each[0] for each in before.diagram.boxes if box[0] in each)
        if home in change.kept:  # What worked in place on a layer that stays.
            layer = before.net.layers[box[0]]
            yield ends[home], ghost_id(box[0]), Edge(home, box[0], layer.tops[0], None)
