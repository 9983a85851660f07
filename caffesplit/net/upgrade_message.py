"""Nets of Caffe's older formats → today's, as messages: the definitions in weight files.

The same upgrade as `upgrade`'s, which works on text. Blobs go along whatever they hold.
"""

from __future__ import annotations

from typing import Any

from caffesplit.errors import Location, NetError
from caffesplit.formats.layers import V1_TYPES
from caffesplit.formats.wire import NOT_CAFFES
from caffesplit.net.findings import Finding, counted
from caffesplit.net.upgrade_rules import (
    DATA_PARAMS,
    INPUT_DIMS,
    INPUT_FIELDS,
    PADDING,
    SPEC_FIELDS,
    TRANSFORM_FIELDS,
    V0_CONNECTION,
    V0_NET,
    WITH_SHAPES,
    WITHOUT_SHAPES,
    Upgrade,
    check_inputs,
    mixture,
    needs_data_upgrade,
    no_place,
    paddings,
    v0_place,
    v1_name,
    v1_type,
)


def upgrade_message(net: Any, path: str) -> Upgrade[Any]:
    """Upgrade a NetParameter: V0 and V1 layers, old transformations of data, and input fields.

    Raises:
        NetError: for layers of several formats, and for what Caffe refuses to upgrade.
    """
    at = Location(path)
    made = Upgrade(net)
    for stage in (_layers_to_v1, _data_to_transform, _layers_to_v2, _inputs_to_layer):
        made = made.followed_by(stage(made.result, at))
    return made


def _layers_to_v1(net: Any, at: Location) -> Upgrade[Any]:
    if not any(layer.HasField("layer") for layer in net.layers):
        return Upgrade(net)
    if net.layer or not all(layer.HasField("layer") for layer in net.layers):
        raise mixture(at)
    padded = paddings(net.layers, net.input, [at] * len(net.layers))
    findings: list[Finding] = []
    new = type(net)()
    for field, value in net.ListFields():
        if field.name not in V0_NET:
            findings.append(no_place(f"`{field.name}` in a V0 net", at))
        elif field.name != "layers":
            _put(new, field.name, value, at)
    for index, layer in enumerate(net.layers):
        if layer.layer.type != PADDING:
            padding = net.layers[padded[index]] if index in padded else None
            _layer_to_v1(layer, padding, new.layers.add(), at, findings)
    steps = [f"V0 → V1: {counted(len(net.layers), 'layer')}"]
    if padded:
        steps.append(f"{counted(len(set(padded.values())), 'padding layer')} folded")
    return Upgrade(new, tuple(steps), tuple(findings))


def _layer_to_v1(old: Any, padding: Any, new: Any, at: Location, findings: list[Finding]) -> None:
    at = Location(at.path, layer=old.layer.name)
    for field, _ in old.ListFields():
        if field.name not in V0_CONNECTION:
            findings.append(no_place(f"`{field.name}` beside a V0 layer", at))
    _put(new, "bottom", old.bottom if padding is None else padding.bottom, at)
    _put(new, "top", old.top, at)
    layer_type = old.layer.type
    for field, value in old.layer.ListFields():
        place = v0_place(layer_type, field.name)
        if field.name == "type":
            new.type = new.LayerType.Value(v1_type(layer_type, at))
        elif place is None:
            findings.append(no_place(f"`{field.name}` in a V0 layer of type {layer_type}", at))
        else:
            *params, name = place
            _put(getattr(new, params[0]) if params else new, name, value, at)
    if padding is not None:
        _put_pad(new, layer_type, padding.layer.pad)


def _put_pad(new: Any, layer_type: str, pad: int) -> None:
    if layer_type == "conv":
        new.convolution_param.pad[:] = [pad]
    else:
        new.pooling_param.pad = pad


def _data_to_transform(net: Any, at: Location) -> Upgrade[Any]:
    if not needs_data_upgrade(net.layers):
        return Upgrade(net)
    new = type(net)()
    new.CopyFrom(net)
    findings = []
    for layer in new.layers:
        name = DATA_PARAMS.get(v1_name(layer))
        if name is None:
            continue
        param, transform = getattr(layer, name), layer.transform_param
        param.SetInParent()
        transform.SetInParent()
        for field in TRANSFORM_FIELDS:
            if param.HasField(field):
                if transform.HasField(field):
                    what = f"`{field}`, for {name} has another"
                    findings.append(no_place(what, Location(at.path, layer=layer.name)))
                setattr(transform, field, getattr(param, field))
                param.ClearField(field)
    return Upgrade(new, ("the transformation of data",), tuple(findings))


def _layers_to_v2(net: Any, at: Location) -> Upgrade[Any]:
    if not net.layers:
        return Upgrade(net)
    if net.layer:
        raise mixture(at)
    new = type(net)()
    new.CopyFrom(net)
    new.ClearField("layers")
    for layer in net.layers:
        _layer_to_v2(layer, new.layer.add(), at)
    return Upgrade(new, (f"V1 → V2: {counted(len(net.layers), 'layer')}",))


def _layer_to_v2(old: Any, new: Any, at: Location) -> None:
    for field, value in old.ListFields():
        if field.name == "type":
            new.type = V1_TYPES.get(value, "")
        elif field.name in SPEC_FIELDS:
            while len(new.param) < len(value):
                new.param.add()
            for spec, entry in zip(new.param, value, strict=False):
                _put(spec, SPEC_FIELDS[field.name], entry, at)
        else:
            _put(new, field.name, value, at)


def _inputs_to_layer(net: Any, at: Location) -> Upgrade[Any]:
    if not net.input:
        return Upgrade(net)
    findings = tuple(check_inputs(net, at))
    new = type(net)()
    new.CopyFrom(net)
    for name in INPUT_FIELDS:
        new.ClearField(name)
    if not net.input_shape and not net.input_dim:
        return Upgrade(new, (WITHOUT_SHAPES,), findings)
    new.ClearField("layer")
    layer = new.layer.add(name="input", type="Input")
    _put(layer, "top", net.input, at)
    for index in range(len(net.input)):
        shape = layer.input_param.shape.add()
        if net.input_shape:
            shape.CopyFrom(net.input_shape[index])
        else:
            shape.dim.extend(net.input_dim[INPUT_DIMS * index : INPUT_DIMS * (index + 1)])
    new.layer.extend(net.layer)
    return Upgrade(new, (WITH_SHAPES,), findings)


def _put(message: Any, name: str, value: Any, at: Location) -> None:
    """Set a field to `value`, of the same type; a repeated one to `value` or the values in it."""
    field = message.DESCRIPTOR.fields_by_name[name]
    try:
        if not field.has_presence:
            is_one = isinstance(value, int | float | str)
            getattr(message, name).extend([value] if is_one else value)
        elif field.message_type:
            getattr(message, name).CopyFrom(value)
            getattr(message, name).SetInParent()
        else:
            setattr(message, name, value)
    except ValueError as error:
        found = f"{name} with {value!r}"
        raise NetError(found, "numbers from 0 on, and texts in UTF-8", NOT_CAFFES, at) from error
