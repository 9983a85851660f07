"""Data layers as text and as the torch engine reads them; images and rows for them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from PIL import Image

from caffesplit.engines.caffe_random import Random
from caffesplit.engines.torch_data import ALONE, source
from caffesplit.errors import DatabaseError, NetError, WeightsError
from caffesplit.formats import database, prototxt, schema
from caffesplit.net import graph

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 6, 5), dtype=np.uint8)


def layer(text):
    return graph.build(prototxt.parse(f'layer {{ name: "data" {text} }}')).layers[0]


def opened(text, root, phase="TRAIN", seed=0, share=ALONE):
    return source(layer(text), phase, root, Random(seed), share)


def error_of(text, root):
    with pytest.raises((NetError, DatabaseError, WeightsError)) as caught:
        opened(text, root).next()
    return str(caught.value)


def data(size, more=""):
    return (
        'type: "Data" top: "data" top: "label" '
        f'data_param {{ source: "lmdb" backend: LMDB batch_size: {size} }} {more}'
    )


def images_layer(more="", transform=""):
    return (
        'type: "ImageData" top: "data" top: "label" '
        f'image_data_param {{ source: "list.txt" batch_size: 3 {more} }} '
        f"transform_param {{ {transform} }}"
    )


def hdf5_layer(name, more=""):
    return (
        'type: "HDF5Data" top: "x" top: "label" '
        f'hdf5_data_param {{ source: "{name}.txt" batch_size: 5 {more} }}'
    )


def write_images(root, images=IMAGES):
    """The images as an LMDB, as files with a list, and their mean."""
    records = ((database.key(i), database.datum(each, i)) for i, each in enumerate(images))
    database.write(root / "lmdb", records)
    names = []
    for number, image in enumerate(images):
        Image.fromarray(image[::-1].transpose(1, 2, 0)).save(root / f"image {number}.png")
        names.append(f"image {number}.png {number}\n")
    (root / "list.txt").write_text("".join(names))
    with (root / "mean.binaryproto").open("wb") as file:
        mean = images.mean(0, dtype=np.float32)[None]
        message = schema.message_class("BlobProto")(num=1, channels=3, height=6, width=5)
        message.data.extend(mean.ravel().tolist())
        file.write(message.SerializeToString())


def write_rows(root):
    """Two HDF5 files of 3 and 4 rows, and their list."""
    for name, start, count in (("a", 0, 3), ("b", 3, 4)):
        with h5py.File(root / f"{name}.h5", "w") as file:
            label = np.arange(start, start + count)
            file["label"] = label.astype(np.int32)
            file["x"] = np.float64(label)[:, None, None] + np.zeros((1, 2, 3))
    (root / "both.txt").write_text("a.h5\nb.h5\n")
    (root / "one.txt").write_text("b.h5")
