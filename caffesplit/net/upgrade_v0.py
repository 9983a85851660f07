"""Nets in V0, the format of 2013 → V1: `layers { layer { … } bottom: … top: … }`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from caffesplit.formats.prototxt import Field, Message, Scalar, quote
from caffesplit.net.findings import Finding, counted
from caffesplit.net.upgrade_layout import (
    Into,
    Outcome,
    Style,
    arranged,
    hoisted,
    indent_of,
    stand_alone,
    unlisted,
)
from caffesplit.net.upgrade_rules import (
    PADDING,
    V0_CONNECTION,
    V0_NET,
    Upgrade,
    mixture,
    no_place,
    paddings,
    v0_place,
    v1_type,
)


def layers_to_v1(tree: Message, net: Any, path: str, style: Style) -> Upgrade[Message]:
    """Upgrade the V0 layers of a net, whose NetParameter is `net`, if it has any.

    Padding layers go; their `pad` goes to the layers that read them.

    Raises:
        NetError: for layers of several formats, and for what Caffe refuses.
    """
    if not any(layer.HasField("layer") for layer in net.layers):
        return Upgrade(tree)
    tree = unlisted(tree, ("layers",), style)
    fields = tree.all("layers")
    for field, layer in zip(fields, net.layers, strict=True):
        if not layer.HasField("layer"):
            raise mixture(field.location(path))
    if net.layer:
        raise mixture(tree.all("layer")[0].location(path))
    padded = paddings(net.layers, net.input, [field.location(path) for field in fields])
    findings: list[Finding] = []
    upgraded = _layers(fields, net.layers, padded, path, style, findings)
    outcomes: list[Outcome] = []
    for field in tree.fields:
        if field.name == "layers":
            outcomes.append(next(upgraded))
        elif field.name in V0_NET or field.name not in net.DESCRIPTOR.fields_by_name:
            outcomes.append((field,))
        else:
            findings.append(no_place(f"`{field.name}` in a V0 net", field.location(path)))
            outcomes.append(())
    steps = [f"V0 → V1: {counted(len(fields), 'layer')}"]
    if padded:
        steps.append(f"{counted(len(set(padded.values())), 'padding layer')} folded")
    return Upgrade(arranged(tree, outcomes, style), tuple(steps), tuple(findings))


def _layers(
    fields: tuple[Field, ...],
    layers: Any,
    padded: dict[int, int],
    path: str,
    style: Style,
    findings: list[Finding],
) -> Iterator[Outcome]:
    for index, (field, layer) in enumerate(zip(fields, layers, strict=True)):
        if layer.layer.type == PADDING:
            yield ()
            continue
        padding = layers[padded[index]] if index in padded else None
        yield (_layer(field, layer, padding, path, style, findings),)


def _layer(
    field: Field, layer: Any, padding: Any, path: str, style: Style, findings: list[Finding]
) -> Field:
    """One layer in V1, with what a padding layer in front of it did."""
    message = unlisted(field.as_message(), ("bottom",), style)
    indent = indent_of(message, style)
    outcomes: list[Outcome] = []
    for entry in message.fields:
        if entry.name == "layer":
            inner = entry.as_message()
            if padding is not None:
                inner = inner.with_field_set("pad", str(padding.layer.pad))
            inner = _moved(inner, layer.layer, path, style, findings)
            outcomes.append(hoisted(replace(entry, value=inner), indent, style))
        elif entry.name == "bottom" and padding is not None:
            outcomes.append((entry.with_value(Scalar(quote(padding.bottom[0]))),))
        elif entry.name in V0_CONNECTION or entry.name not in layer.DESCRIPTOR.fields_by_name:
            outcomes.append((entry,))
        else:
            findings.append(no_place(f"`{entry.name}` beside a V0 layer", entry.location(path)))
            outcomes.append(())
    return replace(field, value=arranged(message, outcomes, style))


def _moved(
    message: Message, layer: Any, path: str, style: Style, findings: list[Finding]
) -> Message:
    """The inner message of a V0 layer with its fields where V1 has them."""
    outcomes: list[Outcome] = []
    for entry, alone in zip(message.fields, stand_alone(message), strict=True):
        at = entry.location(path)
        place = v0_place(layer.type, entry.name)
        if entry.name == "type":
            value = Scalar(v1_type(layer.type, at), source=entry.value.source)
            outcomes.append((replace(entry, value=value),))
        elif place is not None and len(place) == 1:
            outcomes.append((entry,))
        elif place is not None:
            param, name = place
            outcomes.append((Into(param, replace(entry, name=name), alone),))
        elif entry.name in layer.DESCRIPTOR.fields_by_name:
            findings.append(no_place(f"`{entry.name}` in a V0 layer of type {layer.type}", at))
            outcomes.append(())
        else:
            outcomes.append((entry,))
    return arranged(message, outcomes, style)
