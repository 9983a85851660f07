"""Images: decoded as OpenCV decodes them for Caffe, and streamed in batches.

Sources: src/caffe/util/io.cpp, src/caffe/layers/{data,image_data}_layer.cpp.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffesplit.engines.torch_data_transform import Image, Transform
from caffesplit.errors import DatabaseError, Location
from caffesplit.net.graph import Layer

MAX_PIXELS = 2**28
"""Of an encoded image; a small file can hold a picture that fills the memory."""

GREY = ("1", "L", "I", "I;16", "F")
WITH_ALPHA = ("RGBA", "LA", "PA")
"""Pillow's modes."""


class Images:
    """A data layer whose images and labels come from an endless stream.

    `stream` yields pairs of an image (C, H, W) and its label; the first one is looked at, to
    learn the shape, before any batch.
    """

    def __init__(
        self,
        layer: Layer,
        stream: Iterator[tuple[Image, int]],
        batch_size: int,
        transform: Transform,
    ) -> None:
        first = next(stream)
        self._stream = chain([first], stream)
        self._tops, self._batch_size, self._transform = layer.tops, batch_size, transform
        shapes = ((batch_size, *transform.shape(first[0])), (batch_size,))
        self.shapes = dict(zip(self._tops, shapes, strict=False))

    def next(self) -> dict[str, torch.Tensor]:
        images, labels = zip(*islice(self._stream, self._batch_size), strict=True)
        batch = torch.from_numpy(self._transform.batch(images))
        tops = (batch, torch.tensor(labels, dtype=torch.float32))
        return dict(zip(self._tops, tops, strict=False))


def decoded(data: bytes, color: bool | None, at: Location) -> NDArray[np.uint8]:
    """An encoded image as (C, H, W): blue, green, red (`color`), grey, or as it is stored (None:
    with its alpha channel, if it has one).

    Raises:
        DatabaseError: if it is none, or too large.
    """
    picture = _opened(io.BytesIO(data), at)
    if color is None and picture.mode in WITH_ALPHA:
        return np.asarray(picture.convert("RGBA"))[:, :, (2, 1, 0, 3)].transpose(2, 0, 1).copy()
    return _pixels(picture, picture.mode not in GREY if color is None else color)


def read_image(path: Path, height: int, width: int, color: bool) -> NDArray[np.uint8]:
    """An image file as (C, H, W), upright, resized unless height and width are 0.

    Raises:
        DatabaseError: if there is none that can be read.
    """
    from PIL import ImageOps

    pixels = _pixels(ImageOps.exif_transpose(_opened(path, Location(str(path)))), color)
    if not height or pixels.shape[1:] == (height, width):
        return pixels
    # Bilinear, from the four pixels around each point, as cv::resize does it.
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None].float(), (height, width), mode="bilinear"
    )
    return resized[0].round().to(torch.uint8).numpy()


def _opened(source: Path | io.BytesIO, at: Location) -> Any:
    """A Pillow image, loaded."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise DatabaseError(
            "Pillow is not installed, which decodes images",
            remedy="Install it: pip install pillow",
            at=at,
        ) from error
    try:
        picture = Pillow.open(source)
        if picture.width * picture.height <= MAX_PIXELS:
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise DatabaseError("no such image", "a file", "Correct the list.", at) from error
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise DatabaseError(
            f"the image cannot be decoded ({error})", "a picture", "Leave it out.", at
        ) from error
    raise DatabaseError(
        f"an image of {picture.width}×{picture.height}", f"at most {MAX_PIXELS:,} pixels", "", at
    )


def _pixels(picture: Any, color: bool) -> NDArray[np.uint8]:
    """(C, H, W), colours in OpenCV's order: blue, green, red."""
    if color:
        return np.asarray(picture.convert("RGB"))[:, :, ::-1].transpose(2, 0, 1).copy()
    return np.asarray(picture.convert("L"))[None]
