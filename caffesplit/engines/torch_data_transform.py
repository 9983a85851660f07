"""`transform_param`: crop, mirror, mean and scale, in Caffe's order.

Source: DataTransformer, src/caffe/data_transformer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffesplit.engines.caffe_random import Random
from caffesplit.errors import DatabaseError, Location, NetError
from caffesplit.formats.blobs import read_blob
from caffesplit.net.graph import Layer

Image = NDArray[np.uint8] | NDArray[np.float32]
"""(C, H, W)"""


class Transform:
    """What becomes of a layer's images: (x − mean) · scale, of a part of each, mirrored or not.

    Crops are random in TRAIN and central in TEST; mirroring is random in both.

    Raises:
        NetError: if both mean_file and mean_value are given, or too few mean_values.
        WeightsError: if the mean file is damaged.
    """

    def __init__(self, layer: Layer, phase: str, root: Path, random: Random) -> None:
        self._layer, self._param = layer, layer.message.transform_param
        self._random_crop = bool(self._param.crop_size) and phase == "TRAIN"
        self._random = random
        self._own = self._seeded()
        self._mean = self._read_mean(root)

    def reseed(self) -> None:
        """Start the layer's own random numbers anew, as Caffe does once its source is open."""
        self._own = self._seeded()

    def _seeded(self) -> Random | None:
        """Of its own, drawn from the net's, where any are needed (InitRand)."""
        needed = self._param.mirror or self._random_crop
        return Random(self._random.draw()) if needed else None

    def _read_mean(self, root: Path) -> NDArray[np.float32] | None:
        """(C, H, W) of mean_file, or (C or 1, 1, 1) of mean_value."""
        values = list(self._param.mean_value)
        if self._param.HasField("mean_file"):
            if values:
                raise NetError(
                    f"layer {self._layer.name!r} with mean_file and mean_value",
                    "one of them",
                    at=self._layer.location,
                )
            mean = read_blob(root / self._param.mean_file)
            return mean.astype(np.float32).reshape(mean.shape[-3:])
        return np.array(values, np.float32).reshape(-1, 1, 1) if values else None

    def shape(self, image: Image) -> tuple[int, int, int]:
        """Channels, height and width that this image will have.

        Raises:
            NetError: if it is smaller than the crop.
            DatabaseError: if the mean is that of other images.
        """
        channels, height, width = image.shape
        crop = self._param.crop_size
        if crop > min(height, width):
            raise NetError(
                f"layer {self._layer.name!r} crops {crop}×{crop} from an image of {height}×{width}",
                "a crop_size that fits into every image",
                at=self._layer.location,
            )
        self._check_mean(image)
        return (channels, crop, crop) if crop else (channels, height, width)

    def _check_mean(self, image: Image) -> None:
        if self._mean is None:
            return
        if self._param.HasField("mean_file"):
            if self._mean.shape != image.shape:
                raise DatabaseError(
                    f"a mean of shape {self._mean.shape} for images of {image.shape}",
                    "the same shape; the mean is taken off before the crop",
                    "Compute it from these images: compute_image_mean.",
                    Location(self._param.mean_file),
                )
        elif len(self._mean) not in (1, len(image)):
            raise NetError(
                f"layer {self._layer.name!r} with {len(self._mean)} mean_value for images of "
                f"{len(image)} channels",
                "one for all, or one for each",
                at=self._layer.location,
            )

    def batch(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The images as a batch (N, C, H, W), of the shape that the first one will have.

        Raises:
            NetError, DatabaseError: as in `shape`, and where another will have another shape.
        """
        shape = self.shape(images[0])
        batch = np.empty((len(images), *shape), np.float32)
        has_mean_image = self._param.HasField("mean_file")
        for item, (image, draws) in enumerate(zip(images, self._draws(len(images)), strict=True)):
            if image.shape != images[0].shape and self.shape(image) != shape:
                raise self._odd_one(image, shape)
            window = self._window(image, draws)
            batch[item] = image[window]
            if has_mean_image and self._mean is not None:
                batch[item] -= self._mean[window]
        if not has_mean_image and self._mean is not None:
            batch -= self._mean
        if self._param.scale != 1:
            batch *= np.float32(self._param.scale)
        return batch

    def _draws(self, count: int) -> list[list[int]]:
        """For each image: of the mirror, then of the crop's row and column, what is random."""
        each = int(self._param.mirror) + 2 * self._random_crop
        draws = self._own.draws(count * each) if self._own else np.empty(0, np.uint32)
        return draws.reshape(count, each).tolist()

    def _window(self, image: Image, draws: list[int]) -> tuple[slice, slice, slice]:
        """The part of the image that is taken, columns from right to left where it is mirrored."""
        _, height, width = image.shape
        top = left = 0
        if crop := self._param.crop_size:
            top, left = (height - crop) // 2, (width - crop) // 2
            if self._random_crop:
                top, left = draws[-2] % (height - crop + 1), draws[-1] % (width - crop + 1)
            height = width = crop
        columns = slice(left, left + width)
        if self._param.mirror and draws[0] % 2:
            columns = slice(left + width - 1, left - 1 if left else None, -1)
        return slice(None), slice(top, top + height), columns

    def _odd_one(self, image: Image, shape: tuple[int, int, int]) -> DatabaseError:
        return DatabaseError(
            f"layer {self._layer.name!r}: an image of shape {image.shape}",
            f"one that gives {shape}, as the batch's first does",
            "Give the layer a crop_size or new_height and new_width, or a batch_size of 1.",
            self._layer.location,
        )
