"""Global contrast normalisation and ZCA whitening of images, as ALL-CNN and Maxout have them.

Sources: Goodfellow et al., Maxout Networks (2013), whose preprocessing Springenberg et al.,
Striving for Simplicity (2015), take over for ALL-CNN-C; its constants are those of pylearn2,
scripts/datasets/make_cifar10_gcn_whitened.py, and of GCN and ZCA in its preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffesplit.errors import DatabaseError

GCN_SCALE = 55.0
"""The norm of every image after global contrast normalisation."""

GCN_MIN_DIVISOR = 1e-8
"""What would be divided by less, a uniform image, is not divided."""

EPSILON = 0.1
"""Added to the variances before whitening, so that the faint ones are not blown up."""

MAX_VALUES = 3 * 64 * 64
"""Of an image that is whitened: the matrix has as many rows and columns, here 1.2 GB of them."""

Float = NDArray[np.float64]


def contrast_normalized(images: Float) -> Float:
    """The images (B, D) with their own mean over D subtracted and a norm of `GCN_SCALE`."""
    centred = images - images.mean(axis=1, keepdims=True)
    divisor = np.linalg.norm(centred, axis=1, keepdims=True) / GCN_SCALE
    return centred / np.where(divisor < GCN_MIN_DIVISOR, 1, divisor)


@dataclass(frozen=True, eq=False)
class Whitening:
    """ZCA: x → (x - mean) · matrix, with mean (D,) and the symmetric matrix (D, D), float64.

    Over the images it was fitted to, whose covariance has the eigenvalues λ, the result's has
    λ / (λ + epsilon) along the same axes: the identity, but for what epsilon damps.
    """

    mean: Float
    matrix: Float
    epsilon: float

    def __call__(self, images: Float) -> Float:
        """The images (B, D), whitened."""
        return (images - self.mean) @ self.matrix

    def save(self, path: Path) -> None:
        """Write a .npz with `mean`, `matrix` and `epsilon`."""
        with path.open("wb") as file:
            np.savez(file, mean=self.mean, matrix=self.matrix, epsilon=self.epsilon)


def load(path: Path) -> Whitening:
    """The whitening that `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Whitening(arrays["mean"], arrays["matrix"], float(arrays["epsilon"]))


@np.errstate(invalid="ignore")
def fit(batches: Iterable[Float], epsilon: float = EPSILON) -> Whitening:
    """The whitening of all images in the batches (B, D), which pass by once.

    Raises:
        DatabaseError: if the images have more than `MAX_VALUES` values, or any is not finite.
        ValueError: if there are none.
    """
    count = 0
    for batch in batches:
        values = batch.shape[1]
        if values > MAX_VALUES:
            raise DatabaseError(
                f"images of {values:,} values",
                f"at most {MAX_VALUES:,}, since whitening takes a matrix of their square",
                "Write the images smaller.",
            )
        if not count:
            total, products = np.zeros(values), np.zeros((values, values))
        count += len(batch)
        total += batch.sum(axis=0)
        products += batch.T @ batch
    if not count:
        raise ValueError("no images to fit a whitening to")
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    if not np.isfinite(covariance).all():
        raise DatabaseError("images with values that are no finite numbers", "finite ones")
    variances, axes = np.linalg.eigh(covariance)
    # Rounding leaves variances that are 0 a little below it.
    scale = 1 / np.sqrt(np.maximum(variances, 0) + epsilon)
    return Whitening(mean, (axes * scale) @ axes.T, epsilon)
