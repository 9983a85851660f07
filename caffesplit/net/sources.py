"""The files and folders that a net's layers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from caffesplit.formats import prototxt
from caffesplit.net.graph import Layer

PATH_FIELDS = {
    "data_param": ("source",),
    "image_data_param": ("source", "root_folder", "mean_file"),
    "hdf5_data_param": ("source",),
    "infogain_loss_param": ("source",),
    "window_data_param": ("source", "root_folder", "mean_file"),
    "transform_param": ("mean_file",),
}
"""Fields of a layer that name files or folders, by the message that holds them."""


def named_paths(layers: Iterable[Layer]) -> Iterator[tuple[prototxt.Field, str]]:
    """The fields of layers that name files or folders, with their values."""
    for layer in layers:
        for holder in _fields(layer.field):
            for field in _fields(holder):
                is_path = field.name in PATH_FIELDS.get(holder.name, ())
                value = field.value
                if is_path and isinstance(value, prototxt.Scalar) and value.as_string():
                    yield field, value.as_string()


def _fields(field: prototxt.Field) -> tuple[prototxt.Field, ...]:
    return field.value.fields if isinstance(field.value, prototxt.Message) else ()
