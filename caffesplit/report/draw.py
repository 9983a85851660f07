"""Nets as pictures: a Graphviz source of boxes, blobs, splits and changes; and its SVG."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from caffesplit.net.graph import Net
from caffesplit.net.shapes import Shapes
from caffesplit.report import draw_style, draw_text
from caffesplit.report.draw_boxes import Box, Edge
from caffesplit.report.draw_branches import branches
from caffesplit.report.draw_change import Change, compare
from caffesplit.report.draw_frames import framed
from caffesplit.report.draw_ghosts import ghost_boxes, ghost_edges, ghost_id, node_id
from caffesplit.report.draw_graphviz import attributes, quoted
from caffesplit.report.draw_nodes import NAME_LENGTH, Marks, ghost, mean_tpm
from caffesplit.report.draw_nodes import box as layer_box
from caffesplit.report.draw_scene import Scene, data_shapes, scene
from caffesplit.report.draw_svg import svg
from caffesplit.report.draw_title import net_name, title
from caffesplit.report.style import shortened
from caffesplit.split.plan import Plan

__all__ = ["dot", "svg"]

MOST_LABELS = 4
"""Losses and accuracies to which a label's edges are drawn; in nets with more of them, their boxes
name it."""


def dot(
    net: Net,
    base: Net | None = None,
    shapes: Shapes | None = None,
    change: Plan | None = None,
    phase: str | None = None,
) -> str:
    """The Graphviz source of a net's drawing, top to bottom.

    Args:
        net: of any version. Layers in place are rows in the box of what they work on.
        base: what the net is compared with: layers added, changed and removed are marked.
        shapes: of the net as it is trained (`study.inputs.train_shapes`), which may know the
            data's size; by default those that the net's text tells. Sizes that are not known
            are written ?, or left out.
        change: the split that made the net (split.json): its layers get their mean TPM. Which
            layers a split has made is told by their names.
        phase: TRAIN or TEST, for the layers of that phase alone; None for all.
    """
    shown = scene(net, shapes, phase)
    before = scene(base, None, phase, data_shapes(shown)) if base else None
    differences = Change()
    if before:
        differences = compare(shown.net, before.net, shown.present, before.present)
    names = [shown.net.layers[index].name for index in shown.present]
    marks = Marks(branches(names), mean_tpm(change) if change else {}, differences)
    return "\n".join(_lines(shown, before, marks)) + "\n"


def _lines(shown: Scene, before: Scene | None, marks: Marks) -> Iterator[str]:
    label = {"label": title(shown, before, marks)}
    main_path = shown.diagram.main_path()
    yield f"digraph {quoted(net_name(shown))} {{"
    yield f"  graph {attributes(draw_style.GRAPH | label)};"
    yield f"  node {attributes(draw_style.NODE)};"
    yield f"  edge {attributes(draw_style.EDGE)};"
    told = _told(shown, marks)
    blocks = _blocks(shown, marks, told)
    if before:
        for box in ghost_boxes(before, marks.change):
            node = f"{ghost_id(box[0])} {ghost(before, box)};"
            blocks.setdefault(_origin_removed(before, box, blocks), []).append(node)
    yield from framed("", blocks, shown, marks)
    for edge in shown.diagram.edges:
        if edge in told:
            continue
        looks = draw_style.MAIN_PATH if (edge.source, edge.target) in main_path else {}
        yield _edge(node_id(edge.source), node_id(edge.target), edge, shown.net, looks)
    if before:
        for source, target, edge in ghost_edges(shown, before, marks.change):
            yield _edge(source, target, edge, before.net, {"style": "dashed", "label": ""})
    yield "}"


def _told(shown: Scene, marks: Marks) -> frozenset[Edge]:
    """Labels on their way to losses all over the net: the boxes tell of them, not edges."""
    labels: dict[tuple[int, str], list[Edge]] = {}
    for edge in shown.diagram.edges:
        if (marks.look(shown, edge.source), marks.look(shown, edge.target)) == ("data", "loss"):
            labels.setdefault((edge.source, edge.blob), []).append(edge)
    many = (edges for edges in labels.values() if len(edges) > MOST_LABELS)
    return frozenset(edge for edges in many for edge in edges)


def _blocks(shown: Scene, marks: Marks, told: Collection[Edge]) -> dict[str, list[str]]:
    """The lines of the boxes, by the layer whose split made them; the rest's under no name."""
    notes: dict[int, list[str]] = {}
    for edge in shown.diagram.edges:
        if edge in told:
            notes.setdefault(edge.target, []).append(f"← {_blob(edge)}")
    for edge in shown.diagram.outputs:
        if edge.shape or edge.blob != shown.net.layers[edge.source].name:
            notes.setdefault(edge.source, []).append(f"→ {_blob(edge)}")
    blocks: dict[str, list[str]] = {"": []}
    for box in shown.diagram.boxes:
        branch = marks.branches.get(shown.net.layers[box[0]].name)
        node = layer_box(shown, box, marks, notes.get(box[0], []))
        line = f"{node_id(box[0])} {node};"
        blocks.setdefault(branch.origin if branch else "", []).append(line)
    return blocks


def _origin_removed(before: Scene, box: Box, blocks: Mapping[str, object]) -> str:
    """The split that a removed layer belongs to: the one of which it is the origin."""
    name = before.net.layers[box[0]].name
    return name if name in blocks else ""


def _edge(source: str, target: str, edge: Edge, net: Net, looks: Mapping[str, str]) -> str:
    """A blob on its way; its name is told where it is not that of the layer it comes from."""
    shape = draw_text.shape_text(edge.shape)
    name = "" if edge.blob == net.layers[edge.source].name else shortened(edge.blob, NAME_LENGTH)
    label = {"label": f" {': '.join(filter(None, (name, shape)))} "} if name or shape else {}
    tooltip = {"edgetooltip": _blob(edge)}
    tooltip |= {"labeltooltip": tooltip["edgetooltip"]} if label else {}
    return f"  {source} -> {target} {attributes({**label, **tooltip, **looks})};"


def _blob(edge: Edge) -> str:
    shape = draw_text.shape_text(edge.shape)
    return f"{edge.blob} {shape}" if shape else edge.blob
