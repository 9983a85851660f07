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

READERS = {
    "data_param": ("Data",),
    "image_data_param": ("ImageData",),
    "hdf5_data_param": ("HDF5Data",),
    "infogain_loss_param": ("InfogainLoss",),
    "window_data_param": ("WindowData",),
    "transform_param": ("Data", "ImageData", "MemoryData", "WindowData"),
}
"""The types that read these fields; Caffe passes over them in any other layer.

Source: the layers' LayerSetUp in src/caffe/layers.
"""


def named_paths(layers: Iterable[Layer]) -> Iterator[tuple[prototxt.Field, str]]:
    """The fields of layers that name files or folders, with their values."""
    return ((field, path) for layer in layers for _, field, path in _named(layer))


def read_paths(layers: Iterable[Layer]) -> Iterator[tuple[prototxt.Field, str]]:
    """The files and folders that layers read, with the fields that name them."""
    for layer in layers:
        for holder, field, path in _named(layer):
            place = place_of(field, path)
            if place and layer.type in READERS[holder] and not _has_matrix(layer):
                yield field, place


def place_of(field: prototxt.Field, path: str) -> str:
    """What has to exist for a field's path: of a root_folder, which names of images are appended
    to as they are, the part that is a folder: "png/" of "png/p_".
    """
    return path[: path.rfind("/") + 1] if field.name == "root_folder" else path


def _has_matrix(layer: Layer) -> bool:
    """Whether an InfogainLoss has its matrix from a bottom, in place of a file."""
    return layer.type == "InfogainLoss" and len(layer.bottoms) > 2


def _named(layer: Layer) -> Iterator[tuple[str, prototxt.Field, str]]:
    """The message, the field and its value, for each that names a file or folder."""
    for holder in _fields(layer.field):
        for field in _fields(holder):
            is_path = field.name in PATH_FIELDS.get(holder.name, ())
            value = field.value
            if is_path and isinstance(value, prototxt.Scalar) and value.as_string():
                yield holder.name, field, value.as_string()


def _fields(field: prototxt.Field) -> tuple[prototxt.Field, ...]:
    return field.value.fields if isinstance(field.value, prototxt.Message) else ()
