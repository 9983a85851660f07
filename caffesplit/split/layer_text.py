"""The text of the layers that a split puts in place of one, in that one's own style."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from caffesplit.formats import prototxt
from caffesplit.formats.prototxt import Field, ListValue, Message, Scalar, Value, quote
from caffesplit.split.forms import Part, Setting
from caffesplit.split.geometry import PARAMETERS, Geometry

TYPES = {"concat": "Concat", "sum": "Eltwise", "relu": "ReLU"}
"""LayerParameter.type of the kinds of part without weights; all others are of the base's."""


def fields(
    base: Field, geometry: Geometry, parts: tuple[Part, ...], setting: Setting
) -> tuple[Field, ...]:
    """The prototxt of `parts`, to stand where `base` (a `layer { … }`) stands."""
    return tuple(
        _carried(base, geometry, part)
        if part.kind == "carried"
        else _added(base, geometry, part, setting)
        for part in parts
    )


def _carried(base: Field, geometry: Geometry, part: Part) -> Field:
    """The base layer itself with another name, top and num_output: all else is as it was."""
    message = base.as_message()
    parameter = _parameter(base, geometry)
    message = message.replaced(parameter, _with_num_output(parameter, part.num_output))
    message = with_text(with_text(message, "name", part.name), "top", part.top)
    return replace(base.with_value(message).with_lead(_indentation(base)), trail="")


def with_text(message: Message, name: str, text: str) -> Message:
    """The message with the one string of field `name` set, in the quotes that it has."""
    for field in message.all(name):
        if isinstance(field.value, Scalar):
            return message.replaced(field, field.with_value(_rewritten(field.value, text)))
        if isinstance(field.value, ListValue) and field.value.items:
            items = (_rewritten(field.value.items[0], text),)
            return message.replaced(field, field.with_value(replace(field.value, items=items)))
    raise AssertionError(f"a layer without {name}")


def _rewritten(old: Value, text: str) -> Scalar:
    assert isinstance(old, Scalar)
    raw = quote(text)
    if old.raw.startswith("'"):
        raw = "'" + raw[1:-1].replace("'", "\\'") + "'"
    return replace(old, raw=raw)


def _added(base: Field, geometry: Geometry, part: Part, setting: Setting) -> Field:
    unit = _indentation_unit(base)
    lines = [
        f"name: {quote(part.name)}",
        f'type: "{TYPES.get(part.kind, geometry.type)}"',
        *(f"bottom: {quote(bottom)}" for bottom in part.bottoms),
        f"top: {quote(part.top)}",
        *_params(part, setting, unit),
        *(line for rule in _rules(base, part) for line in _lines(rule)),
        *_own_parameter(base, geometry, part, unit),
    ]
    indentation = _indentation(base)
    text = textwrap.indent("\n".join(_block("layer", lines, unit)), indentation)
    return prototxt.parse(text + "\n").fields[0]


def _params(part: Part, setting: Setting, unit: str) -> list[str]:
    """One `param` for each blob; what a skip passes on is not to be learned."""
    learns = part.kind != "skip"
    values = {"lr_mult": setting.new_lr_mult, "decay_mult": setting.new_decay_mult}
    lines = [f"{name}: {value if learns else 0:.9g}" for name, value in values.items()]
    return _block("param", lines, unit) * len(part.blobs)


def _rules(base: Field, part: Part) -> list[Field]:
    """What of the base says where a layer takes part, and what it passes back to its bottom."""
    reads_bottom = part.kind in ("parallel", "skip")
    kept = ["include", "exclude", *(["propagate_down"] if reads_bottom else [])]
    return [field for name in kept for field in base.as_message().all(name)]


def _own_parameter(base: Field, geometry: Geometry, part: Part, unit: str) -> list[str]:
    """The message with the fields of the part's own type, if it needs one."""
    if part.kind == "parallel":
        return _lines(_with_num_output(_parameter(base, geometry), part.num_output))
    if part.kind == "concat":
        axis = _repeated("axis", [geometry.channel_axis], default=1)
        return _block("concat_param", axis, unit) if axis else []
    if not part.blobs:
        return []
    lines = [f"num_output: {part.num_output}", *_geometry_lines(geometry, part)]
    if len(part.blobs) == 1:
        lines.append("bias_term: false")
    if part.kind == "pointwise":
        own = _parameter(base, geometry).as_message()
        for filler in (*own.all("weight_filler"), *own.all("bias_filler")):
            lines += _lines(filler)
    return _block(PARAMETERS[geometry.type], lines, unit)


def _geometry_lines(geometry: Geometry, part: Part) -> list[str]:
    """How a skip or 1×1 layer lies over its bottom; what is Caffe's default is left out."""
    axis = geometry.axis if part.kind == "skip" else geometry.channel_axis
    return [
        *_repeated("kernel_size", [each.kernel for each in part.axes]),
        *_repeated("pad", [each.pad for each in part.axes], default=0),
        *_repeated("stride", [each.stride for each in part.axes], default=1),
        *_repeated("dilation", [each.dilation for each in part.axes], default=1),
        *_repeated("group", [geometry.group], default=1),
        *_repeated("axis", [axis], default=1),
    ]


def _repeated(name: str, values: Sequence[int], default: int | None = None) -> list[str]:
    """The field once for each value, once for all if they are equal, or not at all."""
    distinct = dict.fromkeys(values)
    if set(distinct) <= {default}:
        return []
    return [f"{name}: {value}" for value in (distinct if len(distinct) == 1 else values)]


def _parameter(base: Field, geometry: Geometry) -> Field:
    parameter = base.as_message().get(PARAMETERS[geometry.type])
    assert parameter is not None
    return parameter


def _with_num_output(parameter: Field, num_output: int) -> Field:
    return parameter.with_value(
        parameter.as_message().with_field_set("num_output", str(num_output))
    )


def _block(name: str, lines: list[str], unit: str) -> list[str]:
    return [f"{name} {{", *(unit + line for line in lines), "}"]


def _lines(field: Field) -> list[str]:
    """The field's text without what stands before and behind it, moved to the left margin."""
    bare = str(replace(field, lead="", trail="")).replace("\r\n", "\n")
    return textwrap.dedent(_indentation(field) + bare).split("\n")


def _indentation(field: Field) -> str:
    last_line = field.lead.rpartition("\n")[2]
    return last_line if not last_line.strip() else ""


def _indentation_unit(base: Field) -> str:
    inner = base.as_message().fields[0]
    unit = _indentation(inner).removeprefix(_indentation(base))
    spread = "\n" in base.as_message().open + inner.lead
    return unit if spread and unit else "  "
