"""What a drawing says about a layer: its geometry, its settings, its cost, in Caffe's words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from caffesplit.formats.prototxt import Field, ListValue, Message, Scalar
from caffesplit.metric.history import KERNEL_TYPES
from caffesplit.net.graph import Layer
from caffesplit.net.partial import Partial
from caffesplit.report.draw_costs import Cost, Total
from caffesplit.report.style import shortened

LINE = 38
"""Characters of a line in a box."""
LINES = 3
"""Lines of settings in a box; the rest is in the tooltip."""
VALUE = 32
"""Characters of one setting in a box."""
MOST_TIP = 2000
"""Characters of a tooltip."""

PLAIN = {"stride": 1, "pad": 0, "dilation": 1}
"""What goes without saying."""
UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def head(layer: Layer, spatial_axes: int = 2) -> str:
    """The layer's type with what matters most: `Convolution 3×3, num_output 64`.

    A kernel that is given by one number has it on each of so many axes.
    """
    if layer.type == "InnerProduct":
        return f"InnerProduct, num_output {layer.message.inner_product_param.num_output}"
    if layer.type in KERNEL_TYPES:
        parameter = layer.message.convolution_param
        kernel = times(_kernel(parameter, spatial_axes))
        return f"{layer.type} {kernel}, num_output {parameter.num_output}".replace(" ,", ",")
    if layer.type == "Pooling":
        parameter = layer.message.pooling_param
        pool = parameter.PoolMethod.Name(parameter.pool)
        if parameter.global_pooling:
            return f"Pooling {pool}, global"
        return f"Pooling {pool} {times(_kernel(parameter, 2))}"
    return layer.type


def settings(layer: Layer) -> tuple[str, ...]:
    """What else a layer's box tells: `stride 2`, `pad 0×3`, or the fields that its text sets."""
    return (*_settings(layer), *(f"param {name}" for name in layer.shared_params))


def _settings(layer: Layer) -> tuple[str, ...]:
    if layer.type == "InnerProduct":
        parameter = layer.message.inner_product_param
        axis = (f"axis {parameter.axis}",) if parameter.axis != 1 else ()
        transpose = ("transpose",) if parameter.transpose else ()
        return (*axis, *transpose, *_bias(parameter), *_frozen(layer))
    if layer.type in KERNEL_TYPES:
        parameter = layer.message.convolution_param
        group = (f"group {parameter.group}",) if parameter.group != 1 else ()
        return (*_geometry(parameter), *group, *_bias(parameter), *_frozen(layer))
    if layer.type == "Pooling":
        return tuple(_geometry(layer.message.pooling_param))
    return tuple(
        f"{name} {shortened(value, VALUE)}"
        for holder, name, value in written(layer)
        if holder != "transform_param" and not holder.endswith("filler")
    )


def written(layer: Layer) -> Iterator[tuple[str, str, str]]:
    """The values in a layer's `…_param` messages as they are written: holder, field, values.

    They are taken from the text, so that those of forks are among them.
    """
    message = layer.field.value
    for holder in message.fields if isinstance(message, Message) else ():
        if holder.name.endswith("_param") and isinstance(holder.value, Message):
            yield from _scalars(holder.name, holder.value)


def _scalars(holder: str, message: Message) -> Iterator[tuple[str, str, str]]:
    found: dict[str, list[str]] = {}
    for field in message.fields:
        if isinstance(field.value, Message):
            yield from _scalars(f"{holder}.{field.name}", field.value)
        else:
            found.setdefault(field.name, []).extend(_values(field))
    for name, values in found.items():
        yield holder, name, ", ".join(values)


def _values(field: Field) -> Iterator[str]:
    items = field.value.items if isinstance(field.value, ListValue) else (field.value,)
    for item in items:
        if isinstance(item, Scalar):
            yield item.as_bytes().decode(errors="replace") if item.is_string else item.raw


def _kernel(parameter: Any, axes: int) -> tuple[int, ...]:
    kernel = _sides(parameter, "kernel")
    return kernel * axes if len(kernel) == 1 else kernel


def _sides(parameter: Any, name: str) -> tuple[int, ...]:
    """One of a window's extents, as given: one for each axis, or one for all."""
    if parameter.HasField(f"{name}_h") or parameter.HasField(f"{name}_w"):
        return getattr(parameter, f"{name}_h"), getattr(parameter, f"{name}_w")
    value = getattr(parameter, "kernel_size" if name == "kernel" else name, ())
    return (value,) if isinstance(value, int) else tuple(value)


def _geometry(parameter: Any) -> Iterator[str]:
    for name, plain in PLAIN.items():
        has_sides = name != "dilation" and hasattr(parameter, f"{name}_h")
        sides = _sides(parameter, name) if has_sides else tuple(getattr(parameter, name, ()))
        if any(side != plain for side in sides):
            yield f"{name} {times(sides[:1] if len(set(sides)) == 1 else sides)}"


def _bias(parameter: Any) -> Iterator[str]:
    if not parameter.bias_term:
        yield "no bias"


def _frozen(layer: Layer) -> Iterator[str]:
    specs = layer.message.param
    if specs and all(getattr(spec, "lr_mult", 1) == 0 for spec in specs):
        yield "lr_mult 0"


def times(sizes: Iterable[int | None]) -> str:
    """Sizes as in 3×3; ? for one that is not known."""
    return "×".join("?" if size is None else str(size) for size in sizes)


def shape_text(shape: Partial | None) -> str:
    """A blob's shape: 64×3×?×?; nothing where it is not known, or is a single value's."""
    return times(shape) if shape else ""


def wrapped(parts: Sequence[str]) -> list[str]:
    """The parts, with commas, in a few lines."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 2 <= LINE:
            lines[-1] += f", {part}"
        elif len(lines) == LINES:
            lines[-1] += ", …"
            break
        else:
            lines.append(part)
    return lines


def short(number: int) -> str:
    """Up to four digits in full, others as 12.3 k, 1.23 M, 4.09 G."""
    if abs(number) < 10_000:
        return f"{number:,}"
    for unit, letter in UNITS:
        if abs(number) >= unit * 0.9995:
            scaled = number / unit
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f} {letter}"
    raise AssertionError(number)


def cost_text(cost: Cost) -> str:
    """`2.40 k params, 1.84 M MACs`: what is known, and not 0."""
    parts = []
    if cost.params:
        parts.append(f"{short(cost.params)} params")
    if cost.macs:
        parts.append(f"{short(cost.macs)} MACs")
    return ", ".join(parts)


def total_text(total: Total) -> str:
    """A net's cost; `at least` where a part of it is not known."""
    params = f"{'' if total.all_params else 'at least '}{short(total.params)} params"
    if not total.macs:
        return params
    return f"{params}, {'' if total.all_macs else 'at least '}{short(total.macs)} MACs per image"


def tip(layer: Layer, cost: Cost, *notes: str) -> str:
    """A tooltip: everything that the layer's text sets, and its cost in full."""
    lines = [f"{layer.name} ({layer.type})", *notes]
    lines += [f"{holder}.{name}: {value}" for holder, name, value in written(layer)]
    if cost.params:
        lines.append(f"{cost.params:,} params")
    if cost.macs:
        lines.append(f"{cost.macs:,} MACs per image")
    return shortened("\n".join(lines), MOST_TIP)
