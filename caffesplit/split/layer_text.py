"""The text of the layers that a split puts in place of one, in that one's own style."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from caffesplit.formats import prototxt
from caffesplit.formats.prototxt import Field, quote
from caffesplit.split.forms import Part, Setting

TYPES = {
    "carried": "Convolution",
    "convolution": "Convolution",
    "pointwise": "Convolution",
    "concat": "Concat",
    "sum": "Eltwise",
}
"""LayerParameter.type of each kind of part."""


def fields(base: Field, parts: tuple[Part, ...], setting: Setting) -> tuple[Field, ...]:
    """The prototxt of `parts`, to stand where `base` (a `layer { … }`) stands."""
    return tuple(
        _carried(base, part) if part.kind == "carried" else _added(base, part, setting)
        for part in parts
    )


def _carried(base: Field, part: Part) -> Field:
    """The base layer itself with another name, top and num_output: all else is as it was."""
    message = base.as_message()
    parameter = message.get("convolution_param")
    assert parameter is not None
    message = message.replaced(parameter, _with_num_output(parameter, part.num_output))
    message = message.with_field_set("name", quote(part.name))
    message = message.with_field_set("top", quote(part.top))
    return replace(base.with_value(message).with_lead(_indentation(base)), trail="")


def _added(base: Field, part: Part, setting: Setting) -> Field:
    unit = _indentation_unit(base)
    param = _block(
        "param",
        [f"lr_mult: {setting.new_lr_mult:.9g}", f"decay_mult: {setting.new_decay_mult:.9g}"],
        unit,
    )
    kept = ["include", "exclude"]
    if part.kind == "convolution":
        kept.append("propagate_down")
    rules = [field for name in kept for field in base.as_message().all(name)]
    lines = [
        f"name: {quote(part.name)}",
        f'type: "{TYPES[part.kind]}"',
        *(f"bottom: {quote(bottom)}" for bottom in part.bottoms),
        f"top: {quote(part.top)}",
        *(line for _ in part.blobs for line in param),
        *(line for rule in rules for line in _lines(rule)),
        *_convolution_param(base, part, unit),
    ]
    indentation = _indentation(base)
    text = textwrap.indent("\n".join(_block("layer", lines, unit)), indentation)
    return prototxt.parse(text + "\n").fields[0]


def _convolution_param(base: Field, part: Part, unit: str) -> list[str]:
    parameter = base.as_message().get("convolution_param")
    assert parameter is not None
    if part.kind == "convolution":
        return _lines(_with_num_output(parameter, part.num_output))
    if part.kind == "pointwise":
        own = parameter.as_message()
        lines = [f"num_output: {part.num_output}", "kernel_size: 1"]
        if len(part.blobs) == 1:
            lines.append("bias_term: false")
        for filler in (*own.all("weight_filler"), *own.all("bias_filler")):
            lines += _lines(filler)
        return _block("convolution_param", lines, unit)
    return []


def _with_num_output(parameter: Field, num_output: int) -> Field:
    return parameter.with_value(
        parameter.as_message().with_field_set("num_output", str(num_output))
    )


def _block(name: str, lines: list[str], unit: str) -> list[str]:
    return [f"{name} {{", *(unit + line for line in lines), "}"]


def _lines(field: Field) -> list[str]:
    """The field's text without what leads up to it, moved to the left margin."""
    bare = str(field).removeprefix(field.lead).replace("\r\n", "\n").rstrip()
    return textwrap.dedent(_indentation(field) + bare).split("\n")


def _indentation(field: Field) -> str:
    last_line = field.lead.rpartition("\n")[2]
    return last_line if not last_line.strip() else ""


def _indentation_unit(base: Field) -> str:
    inner = base.as_message().fields[0]
    unit = _indentation(inner).removeprefix(_indentation(base))
    spread = "\n" in base.as_message().open + inner.lead
    return unit if spread and unit else "  "
