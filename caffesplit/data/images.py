"""Labelled images of one size, wherever they lie: the arrays of a data set, or an LMDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import database
from caffesplit.formats.database import Pixels

Image: TypeAlias = tuple[bytes, Pixels, int]
"""Its key in a database, its pixels (C, H, W), its label."""

BATCH = 500
"""Images that are computed with at a time: 12 MB of CIFAR's in float64."""


@dataclass(frozen=True)
class Images:
    """Images of one shape (C, H, W) in their order; `read` gives those from a place on."""

    count: int
    shape: tuple[int, int, int]
    read: Callable[[int], Iterator[Image]]

    def batches(self, start: int = 0) -> Iterator[list[Image]]:
        """The images from a place on, `BATCH` at a time."""
        images = self.read(start)
        while batch := list(islice(images, BATCH)):
            yield batch


def from_arrays(pixels: Pixels, labels: np.ndarray) -> Images:
    """The images of an array (N, C, H, W) with their labels (N,); keys of eight digits."""

    def read(start: int) -> Iterator[Image]:
        for place in range(start, len(pixels)):
            yield database.key(place), pixels[place], int(labels[place])

    return Images(len(pixels), pixels.shape[1:], read)


def from_lmdb(folder: Path) -> Images:
    """The images of an LMDB, all of which are looked at first.

    Raises:
        DatabaseError: if it is damaged or empty, or its images are encoded or not of one size.
    """
    count, shape = 0, None
    for key, datum in database.read(folder):
        where = f"record {key.decode(errors='replace')!r} is"
        if datum.encoded:
            raise DatabaseError(
                f"{where} an encoded image",
                "pixels",
                "Write the database without convert_imageset's --encoded.",
                Location(str(folder)),
            )
        found = (datum.channels, datum.height, datum.width)
        if shape not in (None, found):
            raise DatabaseError(
                f"{where} of shape {found}",
                f"{shape}, as the first one is",
                "Write the database with convert_imageset's --resize_height and --resize_width.",
                Location(str(folder)),
            )
        count, shape = count + 1, found
    if shape is None:
        raise DatabaseError("no images", "some", at=Location(str(folder)))

    def read(start: int) -> Iterator[Image]:
        for key, value in islice(database.read_bytes(folder), start, None):
            datum = database.parse(key, value, folder)
            yield key, database.pixels(datum), datum.label

    return Images(count, shape, read)
