"""The mean image of an LMDB, which Caffe's transform_param subtracts as `mean_file`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffesplit.data.images import Images
from caffesplit.formats import schema
from caffesplit.formats.output import replacing


def write(images: Images, path: Path | str, *, force: bool = False) -> None:
    """Write the images' mean as a BlobProto, as tools/compute_image_mean.cpp does.

    That one adds up in float32, this in float64: they are the same to the bit as long as Caffe's
    sums are exact, which they are for 65,793 images of bytes.

    Raises:
        OutputError: if `path` exists and `force` is false.
    """
    total = np.zeros(images.shape)
    for _, pixels, _ in images.read(0):
        total += pixels
    channels, height, width = images.shape
    blob = schema.message_class("BlobProto")(num=1, channels=channels, height=height, width=width)
    blob.data.extend((total / images.count).astype(np.float32).ravel().tolist())
    with replacing(path, force=force) as (staged,):
        staged.write_bytes(blob.SerializeToString())
