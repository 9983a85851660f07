"""The frames of a drawing: what a split has made stands in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caffesplit.net.findings import counted
from caffesplit.report import draw_style, draw_text
from caffesplit.report.draw_ghosts import node_id
from caffesplit.report.draw_graphviz import attributes, quoted
from caffesplit.report.draw_nodes import NAME_LENGTH, Marks
from caffesplit.report.draw_scene import Scene
from caffesplit.report.style import shortened


def framed(
    origin: str, blocks: Mapping[str, Sequence[str]], shown: Scene, marks: Marks
) -> Iterator[str]:
    """The lines of the boxes of a split, in its frame, with those of splits of its own layers.

    `blocks` are the boxes' lines by the layer whose split made them; those under no name have no
    frame.
    """
    if origin:
        text = {"label": _block_text(origin, shown, marks)}
        yield f"  subgraph {quoted(f'cluster {origin}')} {{"
        yield f"  graph {attributes(draw_style.CLUSTER | text)};"
    yield from (f"  {node}" for node in blocks[origin])
    if origin:
        yield f"  {{ rank=same; {' '.join(_beginnings(origin, shown, marks))} }}"
    for inner in blocks:
        branch = marks.branches.get(inner)
        if inner and (branch.origin if branch else "") == origin:
            yield from framed(inner, blocks, shown, marks)
    if origin:
        yield "  }"


def _beginnings(origin: str, shown: Scene, marks: Marks) -> Iterator[str]:
    """The boxes in which the branches of a split begin, where they are no splits themselves."""
    inside = {
        box[0]
        for box in shown.diagram.boxes
        if _is_within(shown.net.layers[box[0]].name, origin, marks)
    }
    inner = {edge.target for edge in shown.diagram.edges if edge.source in inside}
    for first in sorted(inside - inner):
        if marks.branches[shown.net.layers[first].name].origin == origin:
            yield f"{node_id(first)};"


def _block_text(origin: str, shown: Scene, marks: Marks) -> str:
    layers = [
        index
        for index in shown.present
        if shown.net.layers[index].name in marks.branches
        and _is_within(shown.net.layers[index].name, origin, marks)
    ]
    params = [shown.cost(index).params for index in layers]
    cost = "" if None in params else f", {draw_text.short(sum(filter(None, params)))} params"
    return f"{shortened(origin, NAME_LENGTH)} split into {counted(len(layers), 'layer')}{cost}"


def _is_within(name: str, origin: str, marks: Marks) -> bool:
    """Whether a split of `origin`, or of one of its layers, has made the layer."""
    branch = marks.branches.get(name)
    return branch is not None and (
        branch.origin == origin or _is_within(branch.origin, origin, marks)
    )
