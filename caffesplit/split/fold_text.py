"""The text of a folded layer: one of the block's own layers, changed where it has to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from caffesplit.formats.prototxt import Field, Message, Scalar
from caffesplit.net.graph import Layer
from caffesplit.split.fold_blocks import Block
from caffesplit.split.geometry import PARAMETERS
from caffesplit.split.layer_text import with_text
from caffesplit.split.linear import Axis, Linear


def stem(names: Sequence[str]) -> str:
    """The words that the names start with alike: X for X_split1, X_split2_skip and X_reorder."""
    words = [re.findall(r"[_/.-]+|[^_/.-]+", name) for name in names]
    same = [each[0] for each in takewhile(_is_one, zip(*words, strict=False))]
    if same and not re.match(r"[^_/.-]", same[-1]):
        same[-1] = same[-1][:-1]  # What parts the common words from the rest.
    return "".join(same)


def folded_layer(template: Layer, name: str, block: Block, old: Sequence[Axis]) -> Field:
    """The layer that a block is, in the text of `template`, whose geometry is `old`."""
    message = template.field.as_message()
    for field, old_text, text in (
        ("name", template.name, name),
        ("bottom", template.bottoms[0], block.layers[0].bottoms[0]),
        ("top", template.tops[0], block.layers[-1].tops[0]),
    ):
        if text != old_text:
            message = with_text(message, field, text)
    parameter = message.get(PARAMETERS[template.type])
    assert parameter is not None
    changed = _parameter(parameter.as_message(), template, block.map, old)
    if changed is not parameter.value:
        message = message.replaced(parameter, parameter.with_value(changed))
    return template.field.with_value(message)


def merged(tree: Message, old: Sequence[Field], new: Field) -> Message:
    """`tree` with `new` in the place of several of its fields, where the last of them stands.

    If they are neighbours, what leads up to the first and what follows the last one stay: this
    undoes `Message.replaced`.
    """
    last = stop = next(i for i, field in enumerate(tree.fields) if field is old[-1])
    inside = {id(field) for field in old}
    while stop and id(tree.fields[stop - 1]) in inside:
        stop -= 1
    placed = replace(new, lead=tree.fields[stop].lead, trail=tree.fields[last].trail)
    rest = [field for field in old if not any(field is each for each in tree.fields[stop:])]
    fields = (*tree.fields[:stop], placed, *tree.fields[last + 1 :])
    tree = replace(tree, fields=fields)
    for field in rest:
        tree = tree.replaced(field)
    return tree


def _parameter(message: Message, template: Layer, own: Linear, old: Sequence[Axis]) -> Message:
    parameter = getattr(template.message, PARAMETERS[template.type])
    if parameter.num_output != own.outputs:
        message = message.with_field_set("num_output", str(own.outputs))
    if not parameter.bias_term and own.bias.any():
        message = message.without("bias_term")
    if template.type == "Convolution":
        if parameter.group != own.group:
            message = message.with_field_set("group", str(own.group))
        for name, default in (("kernel", None), ("stride", 1), ("pad", 0), ("dilation", 1)):
            values = [getattr(axis, name) for axis in own.axes]
            if values != [getattr(axis, name) for axis in old]:
                message = _with_extents(message, name, values, default)
    return message


def _with_extents(message: Message, name: str, values: list[int], default: int | None) -> Message:
    """One value for all axes where they have the same one, else one each."""
    single = "kernel_size" if name == "kernel" else name
    for old in (single, f"{name}_h", f"{name}_w"):
        message = message.without(old)
    if len(set(values)) == 1:
        return message if values[0] == default else message.with_field_set(single, str(values[0]))
    if len(values) == 2 and name != "dilation":
        for side, value in zip("hw", values, strict=True):
            message = message.with_field_set(f"{name}_{side}", str(value))
        return message
    return message.appended(*(Field(single, Scalar(str(value))) for value in values))


def _is_one(words: tuple[str, ...]) -> bool:
    return len(set(words)) == 1
