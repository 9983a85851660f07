"""Algebra on weight arrays: the parts of a split layer and their initial weights.

Weights are (N, C/G, *K): output channels, input channels per group, kernel extents, in
Caffe's blob order (caffe/src/caffe/layers/base_conv_layer.cpp, LayerSetUp).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float64]


def rows(blobs: Sequence[Array], kernels: Sequence[int]) -> tuple[Array, ...]:
    """The given kernels of a weight blob (N, …) and, where there is one, of its bias (N,)."""
    return tuple(blob[list(kernels)] for blob in blobs)


def pointwise(matrix: Matrix, extents: int, noise: float, rng: np.random.Generator) -> Array:
    """A kernel (N, C, 1, …, 1) that applies `matrix` (N, C) at every pixel, plus Gaussian noise.

    `extents` is the number of spatial axes, `noise` the standard deviation; 0 draws nothing and
    leaves the matrix exact.
    """
    noisy = matrix + noise * rng.standard_normal(matrix.shape) if noise else matrix
    return noisy.astype(np.float32).reshape(*matrix.shape, *[1] * extents)


def identity(channels: int) -> Matrix:
    """The (N, N) matrix that leaves channels as they are."""
    return np.eye(channels)


def restoring(order: Sequence[int]) -> Matrix:
    """The (N, N) permutation that puts channels, concatenated in `order`, back into 0 … N−1."""
    matrix = np.zeros((len(order), len(order)))
    matrix[list(order), range(len(order))] = 1
    return matrix


def edge_preserving(weight: Array, everywhere: float, centre: float) -> Array:
    """`everywhere`·w at every tap plus `centre`·w at the spatial centre; same shape.

    The centre of an even extent K is K // 2, the pixel a pad of K // 2 aligns with the output.
    Source: notebook 001, −0.2·w + 2·w(centre), "edge preserving".
    """
    result = everywhere * weight.astype(np.float64)
    middle = (..., *(extent // 2 for extent in weight.shape[2:]))
    result[middle] += centre * weight[middle].astype(np.float64)
    return result.astype(np.float32)
