"""Shapes of blobs that come from outside: a net's inputs, and tops of layers without bottoms.

What the data alone tells (an image's size) is not known here. Sources: the data layers, Input,
DummyData and Parameter in src/caffe/layers; InferBlobShape in src/caffe/data_transformer.cpp;
UpgradeNetInput in src/caffe/util/upgrade_proto.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from caffesplit.formats import schema
from caffesplit.formats.prototxt import Message
from caffesplit.net.graph import Layer, Net
from caffesplit.net.partial import LEGACY_AXES, Partial, Refused

Tops = tuple[Partial | None, ...]


def input_shapes(net: Net) -> dict[str, Partial | None]:
    """The net's inputs by name; None for one without a shape."""
    fields = tuple(field for field in net.tree.fields if field.name in ("input_shape", "input_dim"))
    message: Any = schema.read(Message(fields), "NetParameter").message
    dims = tuple(message.input_dim)
    shapes = [tuple(shape.dim) for shape in message.input_shape] or [
        dims[start : start + LEGACY_AXES] for start in range(0, len(dims), LEGACY_AXES)
    ]
    return dict(zip_longest(net.inputs, shapes[: len(net.inputs)]))


def source_tops(layer: Layer, inputs: Mapping[str, Partial]) -> Tops:
    """The shapes of the tops of a layer without bottoms; those in `inputs` win."""
    tops = SOURCES[layer.type](layer)
    if layer.type in IMAGES and layer.tops[0] in inputs:
        tops = _images(layer, inputs[layer.tops[0]])
    return tuple(inputs.get(name, top) for name, top in zip(layer.tops, tops, strict=True))


def _input(layer: Layer) -> Tops:
    shapes = [tuple(shape.dim) for shape in layer.message.input_param.shape]
    return _each(layer, shapes, "shape") if shapes else (None,) * len(layer.tops)


def _dummy_data(layer: Layer) -> Tops:
    dummy = layer.message.dummy_data_param
    legacy = [(name, list(getattr(dummy, name))) for name in ("num", "channels", "height", "width")]
    if not any(sizes for _, sizes in legacy):
        return _each(layer, [tuple(shape.dim) for shape in dummy.shape], "shape")
    if dummy.shape:
        message = "shape beside num, channels, height and width, expected one of the two"
        raise Refused("given-shapes", message)
    return tuple(zip(*(_each(layer, sizes, name) for name, sizes in legacy), strict=True))


def _each(layer: Layer, given: Sequence[Any], name: str) -> tuple[Any, ...]:
    """A value for each top, of one for all or one for each."""
    tops = len(layer.tops)
    if len(given) not in (1, tops):
        message = f"{name} is given {len(given)} times for {tops} tops"
        raise Refused("given-shapes", f"{message}, expected once, or once for each")
    return tuple(given) if len(given) == tops else (given[0],) * tops


def _memory_data(layer: Layer) -> Tops:
    data = layer.message.memory_data_param
    shape = (data.batch_size, data.channels, data.height, data.width)
    if 0 in shape:
        message = "batch_size, channels, height or width is missing or 0, expected 1 or more"
        raise Refused("given-shapes", message)
    return _images(layer, shape)


def _data(layer: Layer) -> Tops:
    data = layer.message.data_param
    crop = crop_size(layer, data)
    return _images(layer, (data.batch_size, None, crop, crop))


def _image_data(layer: Layer) -> Tops:
    data = layer.message.image_data_param
    if bool(data.new_height) != bool(data.new_width):
        message = "one of new_height and new_width, expected both or none"
        raise Refused("given-shapes", message)
    crop, channels = crop_size(layer, data), 3 if data.is_color else 1
    height, width = crop or data.new_height or None, crop or data.new_width or None
    return _images(layer, (data.batch_size, channels, height, width))


def _window_data(layer: Layer) -> Tops:
    data = layer.message.window_data_param
    crop = crop_size(layer, data)
    return _images(layer, (data.batch_size, None, crop, crop))


def _images(layer: Layer, shape: Partial) -> Tops:
    """Images and their labels."""
    return (shape, shape[:1])[: len(layer.tops)]


def crop_size(layer: Layer, data: Any) -> int | None:
    """A data layer's; old nets (V1) may have it among the fields of its `data` parameter."""
    crop: int = layer.message.transform_param.crop_size
    return crop or (data.crop_size if layer.field.name == "layers" else 0) or None


def _parameter(layer: Layer) -> Tops:
    return (tuple(layer.message.parameter_param.shape.dim),)


# HDF5Data and Python are not here: all of their shapes come with the data, or from code.
SOURCES: Mapping[str, Callable[[Layer], Tops]] = {
    "Data": _data,
    "DummyData": _dummy_data,
    "ImageData": _image_data,
    "Input": _input,
    "MemoryData": _memory_data,
    "Parameter": _parameter,
    "WindowData": _window_data,
}
IMAGES = frozenset({"Data", "ImageData", "MemoryData", "WindowData"})
"""Types with images and labels as tops, as many of one as of the other."""
