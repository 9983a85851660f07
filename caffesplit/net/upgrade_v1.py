"""Nets in V1, the format of 2014 → today's: `layers { type: CONVOLUTION blobs_lr: 1 … }`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from caffesplit.errors import NetError
from caffesplit.formats.layers import V1_TYPES
from caffesplit.formats.prototxt import Field, Message, Scalar, quote
from caffesplit.net.findings import Finding, counted
from caffesplit.net.upgrade_layout import (
    Into,
    Outcome,
    Style,
    arranged,
    comment_lines,
    indent_of,
    stand_alone,
    unlisted,
    without_comments,
)
from caffesplit.net.upgrade_rules import (
    DATA_PARAMS,
    SPEC_FIELDS,
    TRANSFORM_FIELDS,
    Upgrade,
    mixture,
    needs_data_upgrade,
    no_place,
    v1_name,
)


def data_to_transform(tree: Message, net: Any, path: str, style: Style) -> Upgrade[Message]:
    """Move what data layers do to their data into `transform_param`, in a V1 net."""
    if not needs_data_upgrade(net.layers):
        return Upgrade(tree)
    tree = unlisted(tree, ("layers",), style)
    findings: list[Finding] = []
    layers = iter(net.layers)
    outcomes: list[Outcome] = []
    for field in tree.fields:
        param = DATA_PARAMS.get(v1_name(next(layers))) if field.name == "layers" else None
        if param is not None:
            message = _transforming(field.as_message(), param, path, style, findings)
            field = replace(field, value=message)
        outcomes.append((field,))
    step = "the transformation of data"
    return Upgrade(arranged(tree, outcomes, style), (step,), tuple(findings))


def _transforming(
    message: Message, param: str, path: str, style: Style, findings: list[Finding]
) -> Message:
    """A data layer whose `param` is free of TRANSFORM_FIELDS. Both messages are there after it,
    as in Caffe's result.
    """
    message = _with(message, param)
    indent = indent_of(message, style)
    (source,) = message.all(param)
    kept, moved = _separated(source, indent, style)
    if not moved:
        return _with(message, "transform_param")
    names = {item.field.name for item in moved}
    outcomes: list[Outcome] = []
    for field in message.fields:
        if field is source:
            outcomes.append((replace(field, value=kept), *moved))
        elif field.name == "transform_param":
            cleaned = _overruled(field.as_message(), names, param, path, style, findings)
            outcomes.append((replace(field, value=cleaned),))
        else:
            outcomes.append((field,))
    return arranged(message, outcomes, style)


def _with(message: Message, name: str) -> Message:
    """This message with one called `name` in it."""
    if message.get(name) is not None:
        return message
    return message.appended(Field(name, Message((), "{", " ", "}"), joint=" "))


def _overruled(
    transform: Message,
    names: set[str],
    param: str,
    path: str,
    style: Style,
    findings: list[Finding],
) -> Message:
    """A transformation without the fields that the data layer's param has too."""
    outcomes: list[Outcome] = []
    for field in transform.fields:
        outcomes.append(() if field.name in names else (field,))
        if field.name in names:
            what = f"`{field.name}`, for {param} has another"
            findings.append(no_place(what, field.location(path)))
    return arranged(transform, outcomes, style)


def _separated(source: Field, indent: str, style: Style) -> tuple[Message, list[Into]]:
    """What stays in a data layer's param, and what moves from it into the transformation."""
    message = source.as_message()
    kept, moved = [], []
    outcomes: list[Outcome] = []
    for field, alone in zip(message.fields, stand_alone(message), strict=True):
        if field.name in TRANSFORM_FIELDS:
            lead = comment_lines(field.lead, indent, style) + indent
            moved.append(Into("transform_param", replace(field, lead=lead), alone))
            kept.append(without_comments(field))
            outcomes.append(())
        else:
            kept.append(field)
            outcomes.append((field,))
    return arranged(replace(message, fields=tuple(kept)), outcomes, style), moved


def layers_to_v2(tree: Message, net: Any, path: str, style: Style) -> Upgrade[Message]:
    """Upgrade the V1 layers of a net, whose NetParameter is `net`, if it has any.

    Raises:
        NetError: for layers of several formats, or a type that V1 does not have.
    """
    if not net.layers:
        return Upgrade(tree)
    if net.layer:
        raise mixture(tree.all("layer")[0].location(path))
    tree = unlisted(tree, ("layers",), style)
    layers = iter(net.layers)
    outcomes: list[Outcome] = [
        (_layer(field, next(layers), path, style) if field.name == "layers" else field,)
        for field in tree.fields
    ]
    step = f"V1 → V2: {counted(len(net.layers), 'layer')}"
    return Upgrade(arranged(tree, outcomes, style), (step,))


def _layer(field: Field, layer: Any, path: str, style: Style) -> Field:
    message = unlisted(field.as_message(), SPEC_FIELDS, style)
    indices: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    for entry, alone in zip(message.fields, stand_alone(message), strict=True):
        if entry.name in SPEC_FIELDS:
            moved = replace(entry, name=SPEC_FIELDS[entry.name])
            outcomes.append((Into("param", moved, alone, indices[entry.name]),))
            indices[entry.name] += 1
        elif entry.name == "type":
            outcomes.append((_with_type(entry, layer, path),))
        else:
            outcomes.append((entry,))
    return replace(field, name="layer", value=arranged(message, outcomes, style))


def _with_type(entry: Field, layer: Any, path: str) -> Field:
    if not layer.HasField("type"):
        raise NetError(
            f"V1 has no layer type {entry.value}",
            "one of " + ", ".join(layer.LayerType.keys()),
            'Types of a fork exist as `layer { type: "…" }` alone; write the layer so.',
            entry.location(path),
        )
    return entry.with_value(Scalar(quote(V1_TYPES.get(layer.type, ""))))
