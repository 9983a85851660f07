"""Files as NVCaffe writes them: protobuf's own encoding of NVIDIA's BlobProto and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

RAW_TYPES = {"float64": 0, "float32": 1, "float16": 2}
OPTIONAL, REPEATED = 1, 3
FLOAT, DOUBLE, INT64, INT32, BOOL, STRING, MESSAGE, BYTES, UINT32 = 2, 1, 3, 5, 8, 9, 11, 12, 13

MESSAGES = {
    "BlobShape": [("dim", 1, REPEATED, INT64)],
    "BlobProto": [
        ("shape", 7, OPTIONAL, "BlobShape"),
        ("data", 5, REPEATED, FLOAT),
        ("double_data", 8, REPEATED, DOUBLE),
        ("raw_data_type", 10, OPTIONAL, INT32),
        ("raw_diff_type", 11, OPTIONAL, INT32),
        ("raw_data", 12, OPTIONAL, BYTES),
        ("raw_diff", 13, OPTIONAL, BYTES),
        ("num", 1, OPTIONAL, INT32),
        ("channels", 2, OPTIONAL, INT32),
        ("height", 3, OPTIONAL, INT32),
        ("width", 4, OPTIONAL, INT32),
    ],
    "LayerParameter": [
        ("name", 1, OPTIONAL, STRING),
        ("type", 2, OPTIONAL, STRING),
        ("bottom", 3, REPEATED, STRING),
        ("top", 4, REPEATED, STRING),
        ("blobs", 7, REPEATED, "BlobProto"),
        ("forward_type", 145, OPTIONAL, INT32),
        ("forward_math", 147, OPTIONAL, INT32),
        ("debug", 149, OPTIONAL, BOOL),
    ],
    "NetParameter": [
        ("name", 1, OPTIONAL, STRING),
        ("layer", 100, REPEATED, "LayerParameter"),
        ("default_forward_type", 11, OPTIONAL, INT32),
    ],
}
"""Of src/caffe/proto/caffe.proto, NVIDIA/caffe v0.17.4: name, number, label and type of fields."""


def _net_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="nv.proto", package="nvcaffe", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = MESSAGE, f".nvcaffe.{kind}"
            else:
                added.type = kind
                added.options.packed = label == REPEATED and kind in (FLOAT, DOUBLE, INT64)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("nvcaffe.NetParameter"))


Net = _net_class()


def add_raw(blobs: Any, array: np.ndarray) -> Any:
    """A blob as Blob::ToProto writes it since 0.16, in the array's type."""
    blob = blobs.add(raw_data_type=RAW_TYPES[array.dtype.name], raw_data=array.tobytes())
    blob.shape.dim.extend(array.shape)
    return blob


def add_old(blobs: Any, array: np.ndarray) -> Any:
    """A blob as with store_blobs_in_old_format (Blob::ToProtoBVLC), and before 0.16."""
    blob = blobs.add()
    blob.shape.dim.extend(array.shape)
    (blob.double_data if array.dtype == np.float64 else blob.data).extend(array.ravel().tolist())
    return blob


def save(path: Path, layers: Sequence[tuple[str, str, Sequence[np.ndarray]]], add=add_raw) -> Path:
    """A net of (name, type, blobs)."""
    net = Net(name="nv", default_forward_type=2)
    for name, kind, blobs in layers:
        layer = net.layer.add(name=name, type=kind, top=[name], forward_type=2, forward_math=1)
        for array in blobs:
            add(layer.blobs, array)
    path.write_bytes(net.SerializeToString())
    return path
