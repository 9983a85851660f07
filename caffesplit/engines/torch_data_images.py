"""Images: decoded as OpenCV decodes them for Caffe, and streamed in batches.

Sources: src/caffe/util/io.cpp, src/caffe/layers/{data,image_data}_layer.cpp.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from caffesplit.engines.torch_data_transform import Image, Transform
from caffesplit.errors import DatabaseError, Location
from caffesplit.formats.prototxt import quote
from caffesplit.net.graph import Layer

MAX_PIXELS = 2**28
"""Of an encoded image; a small file can hold a picture that fills the memory."""

DEEP = ("I", "I;16", "I;16B")
GREY = ("1", "L", "F", *DEEP)
WITH_ALPHA = ("RGBA", "LA", "PA")
"""Pillow's modes; a picture in a `DEEP` one is grey with 16 bits."""

PNG = b"\x89PNG\r\n\x1a\n"
PNG_BIT_DEPTH = 24
"""Where a PNG's header tells it; Pillow makes 8 bits of 16 in colour, and does not."""

TURNED = ("JPEG", "MPO")
"""Pillow's formats in which OpenCV heeds the EXIF orientation; the latter holds several JPEGs."""


class Listed(NamedTuple):
    """What a line of an ImageData layer's list says."""

    name: str
    label: int
    line: int


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
    """An encoded image as (C, H, W): blue, green, red (`color`) or grey, upright, or as it is
    stored (None: with its alpha channel, if it has one).

    Raises:
        DatabaseError: if it is none, or too large; if it is to be as stored, and has 16 bits.
    """
    with _opened(io.BytesIO(data), at) as picture:
        if color is not None:
            return _pixels(_upright(picture), color)
        if picture.mode in DEEP or (data.startswith(PNG) and data[PNG_BIT_DEPTH] == 16):
            raise DatabaseError(
                "the image has 16 bits in each value",
                "8, where it is taken as it is stored",
                "Write force_color: true or force_gray: true into the layer's transform_param, "
                "which keeps the upper 8 bits.",
                at,
            )
        if picture.mode in WITH_ALPHA:
            return np.asarray(picture.convert("RGBA"))[:, :, (2, 1, 0, 3)].transpose(2, 0, 1).copy()
        return _pixels(picture, picture.mode not in GREY)


def listed(path: Path) -> list[Listed]:
    """The images in a list file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DatabaseError(
            f"the list of images cannot be read ({error.strerror})",
            "a text file",
            "Correct `source` in the layer's image_data_param.",
            Location(str(path)),
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        name, _, label = line.rpartition(" ")
        try:
            found.append(Listed(name, int(label), number))
        except ValueError:
            raise DatabaseError(
                f"a line {line!r}", "a file's name, a space and a label, which is a number", "",
                Location(str(path), number),
            ) from None  # fmt: skip
    if not found:
        raise DatabaseError("an empty list", "one image at least", "", Location(str(path)))
    return found


def read_listed(layer: Layer, root: Path, image: Listed, at: Location) -> Image:
    """The pixels of an image that the list names at `at`."""
    param = layer.message.image_data_param
    path = root / f"{param.root_folder}{image.name}"
    if not path.is_file():
        raise DatabaseError(
            f"no image {path}",
            f"a file there: root_folder, which is {quote(param.root_folder)}, and the line's name",
            f"Correct the line, or root_folder in layer {layer.name!r}.",
            at,
        )
    return read_image(path, param.new_height, param.new_width, param.is_color, at)


def read_image(path: Path, height: int, width: int, color: bool, at: Location) -> NDArray[np.uint8]:
    """An image file as (C, H, W), upright, resized unless height and width are 0.

    Raises:
        DatabaseError: about `at`, which names the file, if it cannot be read.
    """
    with _opened(path, at) as picture:
        pixels = _pixels(_upright(picture), color)
    if not height or pixels.shape[1:] == (height, width):
        return pixels
    # Bilinear, from the four pixels around each point, as cv::resize does it.
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None].float(), (height, width), mode="bilinear"
    )
    return resized[0].round().to(torch.uint8).numpy()


@contextmanager
def _opened(source: Path | io.BytesIO, at: Location) -> Iterator[Any]:
    """A Pillow image, loaded. What fails while it is in use is the image's fault as well."""
    try:
        from PIL import Image as Pillow
        from PIL import UnidentifiedImageError
    except ImportError as error:
        raise DatabaseError(
            "Pillow is not installed, which decodes images",
            remedy="Install it: pip install pillow",
            at=at,
        ) from error
    named, remedy = "the image", "The record is damaged: write the database anew."
    if isinstance(source, Path):
        named, remedy = f"the image {source}", "Replace the file, or leave the line out."
    try:
        with (
            source.open("rb") if isinstance(source, Path) else source as file,
            Pillow.open(file) as picture,
        ):
            if picture.width * picture.height > MAX_PIXELS:
                raise DatabaseError(
                    f"{named} has {picture.width}×{picture.height} pixels",
                    f"at most {MAX_PIXELS:,}",
                    "Make it smaller, or leave it out.",
                    at,
                )
            picture.load()
            yield picture
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        # Pillow's own text would name the file again, or an object in memory.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "of no format that Pillow knows" if unknown else error
        raise DatabaseError(
            f"{named} cannot be decoded ({reason})", "a picture", remedy, at
        ) from error


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture) if picture.format in TURNED else picture


def _pixels(picture: Any, color: bool) -> NDArray[np.uint8]:
    """(C, H, W), colours in OpenCV's order: blue, green, red; the upper 8 bits of 16."""
    if picture.mode in DEEP:
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.stack([grey] * (3 if color else 1))
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # Any other mode is a warning to Pillow.
    if color:
        return np.asarray(picture.convert("RGB"))[:, :, ::-1].transpose(2, 0, 1).copy()
    return np.asarray(picture.convert("L"))[None].copy()
