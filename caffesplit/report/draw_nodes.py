"""The boxes of a drawing: what they say, and how they look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from caffesplit.report import draw_text
from caffesplit.report.draw_boxes import Box
from caffesplit.report.draw_branches import Branch
from caffesplit.report.draw_change import Change
from caffesplit.report.draw_graphviz import attributes, markup
from caffesplit.report.draw_scene import Scene
from caffesplit.report.draw_style import (
    BODY_SIZE,
    FADED,
    LOOKS,
    NAME_SIZE,
    NEW_WIDTH,
    SMALL_SIZE,
    Look,
    sized,
    table,
)
from caffesplit.report.style import shortened
from caffesplit.split.plan import Plan

NAME_LENGTH = 60
"""Characters of a layer's name in its box; the tooltip has it all."""
DIFFERENCES = 4
"""Changes of one layer that its box tells."""


@dataclass(frozen=True)
class Marks:
    """What sets layers apart: their place in a split and TPM, by name; changes, by position."""

    branches: Mapping[str, Branch]
    tpm: Mapping[str, str]
    change: Change

    def look(self, scene: Scene, index: int) -> str:
        """The layer's name in LOOKS."""
        layer = scene.net.layers[index]
        if layer.name in self.branches:
            return self.branches[layer.name].role
        if index in self.change.changed:
            return "changed"
        if index in self.change.added:
            return "added"
        if not layer.bottoms:
            return "data"
        if layer.type.endswith("Loss") or layer.type == "Accuracy":
            return "loss"
        return "learned" if scene.cost(index).params != 0 else "plain"

    def signs(self, scene: Scene, index: int) -> list[str]:
        """The look in words, where it says more than what the layer is."""
        layer = scene.net.layers[index]
        signs = []
        if index in self.change.added:
            signs.append("+ new")
        if index in self.change.changed:
            signs.append("~ changed")
        if layer.name in self.branches:
            signs.append(self.branches[layer.name].role)
        if len(layer.phases) == 1:
            signs.append(f"{layer.phases[0]} only")
        return signs


def mean_tpm(plan: Plan) -> dict[str, str]:
    """The mean TPM of the kernels that each part of a split got, by the part's name."""
    found = {}
    for layer in plan.layers:
        for part, kernels in (("split1", layer.fast), ("split2", layer.slow)):
            values = [layer.tpm[kernel] for kernel in kernels] if layer.tpm else []
            defined = [tpm for tpm in values if tpm is not None]
            if defined:
                found[f"{layer.name}_{part}"] = f"mean TPM {fmean(defined):.3f}"
    return found


def box(scene: Scene, box: Box, marks: Marks, notes: list[str]) -> str:
    """The attributes of a layer's box, with rows for those in place on it, and further notes."""
    first = box[0]
    look = LOOKS[marks.look(scene, first)]
    faded = [sized(markup(note), SMALL_SIZE, FADED) for note in notes]
    parts = [[*_rows(scene, first, marks), *faded]]
    parts += [list(_folded(scene, index, marks)) for index in box[1:]]
    tips = (_tip(scene, index, marks) for index in box)
    is_new = first in marks.change.added or first in marks.change.changed
    return _attributes(look, parts, tips, NEW_WIDTH if is_new else look.width)


def ghost(base: Scene, box: Box) -> str:
    """The attributes of the box of layers that only the base has."""
    look = LOOKS["removed"]
    parts = [[sized("− removed", SMALL_SIZE, look.border)]]
    for index in box:
        name = markup(shortened(base.net.layers[index].name, NAME_LENGTH))
        rows = [sized(f"<S>{name}</S>", NAME_SIZE, FADED)]
        rows += [sized(markup(line), BODY_SIZE, FADED) for line in _body(base, index)]
        parts.append(rows)
    parts[:2] = [parts[0] + parts[1]]
    layers = ((base.net.layers[index], base.cost(index)) for index in box)
    tips = (draw_text.tip(layer, cost, "removed") for layer, cost in layers)
    return _attributes(look, parts, tips, look.width)


def _attributes(look: Look, parts: Iterable[Iterable[str]], tips: Iterable[str], width: str) -> str:
    return attributes(
        {
            "label": table(*parts),
            "tooltip": "\n\n".join(tips),
            "shape": look.shape,
            "margin": look.margin,
            "style": look.style,
            "fillcolor": look.fill,
            "color": look.border,
            "penwidth": width,
        }
    )


def _rows(scene: Scene, index: int, marks: Marks) -> Iterator[str]:
    layer = scene.net.layers[index]
    look = LOOKS[marks.look(scene, index)]
    signs = marks.signs(scene, index)
    if signs:
        yield sized(markup(" · ".join(signs)), SMALL_SIZE, look.border)
    yield sized(f"<B>{markup(shortened(layer.name, NAME_LENGTH))}</B>", NAME_SIZE)
    for line in _body(scene, index):
        yield sized(markup(line), BODY_SIZE)
    if layer.name in marks.tpm:
        yield sized(marks.tpm[layer.name], BODY_SIZE)
    for difference in marks.change.changed.get(index, ())[:DIFFERENCES]:
        yield sized(f"<I>{markup(shortened(difference, 2 * draw_text.LINE))}</I>", SMALL_SIZE)


def _body(scene: Scene, index: int) -> Iterator[str]:
    layer = scene.net.layers[index]
    yield draw_text.head(layer, scene.spatial_axes(index))
    yield from draw_text.wrapped(draw_text.settings(layer))
    cost = draw_text.cost_text(scene.cost(index))
    if cost:
        yield cost


def _folded(scene: Scene, index: int, marks: Marks) -> Iterator[str]:
    """The rows of a layer that shares another one's box: name, type, what is special about it."""
    layer = scene.net.layers[index]
    cost = draw_text.cost_text(scene.cost(index))
    facts = [draw_text.head(layer), *draw_text.settings(layer), *([cost] if cost else [])]
    facts += marks.signs(scene, index)
    name = markup(shortened(layer.name, NAME_LENGTH))
    lines = draw_text.wrapped(facts)
    yield sized(f"<B>{name}</B>  {markup(lines[0])}", SMALL_SIZE)
    for line in (*lines[1:], *marks.change.changed.get(index, ())[:DIFFERENCES]):
        yield sized(markup(line), SMALL_SIZE)


def _tip(scene: Scene, index: int, marks: Marks) -> str:
    layer = scene.net.layers[index]
    notes = [*marks.signs(scene, index), *marks.change.changed.get(index, ())]
    notes += [marks.tpm[layer.name]] if layer.name in marks.tpm else []
    return draw_text.tip(layer, scene.cost(index), *notes)
