"""Input fields of a net (`input`, `input_dim`, `input_shape`) → an Input layer in front."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from caffesplit.formats.prototxt import Field, Message, Scalar, quote
from caffesplit.net.upgrade_layout import (
    Into,
    Outcome,
    Style,
    arranged,
    block,
    stand_alone,
    unlisted,
    without_comments,
)
from caffesplit.net.upgrade_rules import (
    INPUT_DIMS,
    INPUT_FIELDS,
    WITH_SHAPES,
    WITHOUT_SHAPES,
    Upgrade,
    check_inputs,
)


def inputs_to_layer(tree: Message, net: Any, path: str, style: Style) -> Upgrade[Message]:
    """Make an Input layer of the net's input fields; inputs without a shape just go, as in Caffe.

    Raises:
        NetError: if some of the inputs, but not all of them, have a shape.
    """
    if not net.input:
        return Upgrade(tree)
    tree = unlisted(tree, INPUT_FIELDS, style)
    inputs = tree.all("input")
    findings = tuple(check_inputs(net, inputs[0].location(path)))
    shapes = tree.all("input_shape")[: len(inputs)]
    dims = () if shapes else tree.all("input_dim")[: INPUT_DIMS * len(inputs)]
    moved = {id(field) for field in (*inputs, *shapes, *dims)} if shapes or dims else set()
    # The layer comes where the first of its fields was, but in front of all other layers.
    places = (field for field in tree.fields if id(field) in moved or field.name == "layer")
    place = next(places) if moved else None
    outcomes: list[Outcome] = []
    stripped = []
    for field in tree.fields:
        outcome: Outcome = () if field.name in INPUT_FIELDS else (field,)
        if field is place:
            outcome = (_input_layer(tree, inputs, shapes, dims, style), *outcome)
        outcomes.append(outcome)
        stripped.append(without_comments(field) if id(field) in moved else field)
    bare = replace(tree, fields=tuple(stripped))
    step = WITH_SHAPES if moved else WITHOUT_SHAPES
    return Upgrade(arranged(bare, outcomes, style), (step,), findings)


def _input_layer(
    tree: Message,
    inputs: tuple[Field, ...],
    shapes: tuple[Field, ...],
    dims: tuple[Field, ...],
    style: Style,
) -> Field:
    """The Input layer, with the comments of the fields it is made from."""
    alone = {id(field): alone for field, alone in zip(tree.fields, stand_alone(tree), strict=True)}

    def into(group: str, name: str, field: Field) -> Into:
        return Into(group, replace(field, name=name), alone[id(field)])

    if dims:
        blocks = [
            [into("shape", "dim", dim) for dim in dims[start : start + INPUT_DIMS]]
            for start in range(0, len(dims), INPUT_DIMS)
        ]
        shape_members = [Into("input_param", block("shape", dim, style), False) for dim in blocks]
    else:
        shape_members = [into("input_param", "shape", shape) for shape in shapes]
    spread = any(alone[id(field)] for field in (*inputs, *shapes, *dims))
    tops = [into("layer", "top", field) for field in inputs]
    headless = replace(tops[0], field=replace(tops[0].field, lead=""))
    members = [
        Into("layer", Field("name", Scalar(quote("input")), inputs[0].lead), spread),
        Into("layer", Field("type", Scalar(quote("Input"))), spread),
        headless,
        *tops[1:],
        Into("layer", block("input_param", shape_members, style), spread),
    ]
    return block("layer", members, style)
