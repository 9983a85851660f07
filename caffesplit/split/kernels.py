"""Algebra on weight arrays: the parts of a split layer and their initial weights.

Weights are (N, C/G, *K): output channels, input channels per group, kernel extents, in
Caffe's blob order (caffe/src/caffe/layers/base_conv_layer.cpp, LayerSetUp). A matrix that mixes
channels is (N, C/G) too: row n has the factors of the C/G channels in n's own group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.intp]

MAX_VALUES = 1 << 22
"""Values of a kernel that are computed in float64 at a time."""


def rows(blobs: Sequence[Array], kernels: Sequence[int], axis: int = 0) -> tuple[Array, ...]:
    """The given kernels of a weight blob (N, …) and, where there is one, of its bias (N,).

    `axis` is that of the kernels in every blob: -1 for a transposed weight blob (K, N).
    """
    return tuple(blob.take(list(kernels), axis) for blob in blobs)


def pointwise(matrix: Matrix, extents: int, noise: float, rng: np.random.Generator) -> Array:
    """A kernel (N, C/G, 1, …, 1) that applies `matrix` (N, C/G) at every pixel, plus noise.

    `extents` is the number of spatial axes, `noise` the Gaussian's standard deviation; 0 draws
    nothing and leaves the matrix exact.
    """
    if noise:
        noisy = rng.standard_normal(matrix.shape)
        noisy *= noise
        noisy += matrix
        matrix = noisy
    return matrix.astype(np.float32).reshape(*matrix.shape, *[1] * extents)


def identity(outputs: int, inputs: int, group: int = 1) -> Matrix:
    """The (N, C/G) matrix that copies, in each group, input channel i to output channel i.

    Outputs beyond the inputs get nothing.
    """
    matrix = np.zeros((outputs, inputs // group))
    matrix[copied(outputs, inputs, group)] = 1
    return matrix


def copied(outputs: int, inputs: int, group: int = 1) -> tuple[Index, Index]:
    """Where in an `identity` the ones stand: their rows, and their columns."""
    rows = np.arange(outputs)
    columns = rows % (outputs // group)
    inside = columns < inputs // group
    return rows[inside], columns[inside]


def restoring(order: Sequence[int], outputs: int, group: int = 1) -> Matrix:
    """The (N, n/G) matrix that puts n channels into the places `order` among N = `outputs`.

    With groups, `order` is ascending and has as many places in each group.
    """
    share = len(order) // group
    matrix = np.zeros((outputs, share))
    matrix[list(order), np.arange(len(order)) % share] = 1
    return matrix


def composed(after: Array, weight: Array, group: int = 1) -> Matrix:
    """The kernel (N, C/G, *K) of `weight` followed by the pointwise kernel `after`."""
    mixing = after.astype(np.float64).reshape(group, len(after) // group, -1)
    flat = weight.astype(np.float64).reshape(group, len(weight) // group, -1)
    mixed: Matrix = (mixing @ flat).reshape(len(after), *weight.shape[1:])
    return mixed


def edge_preserving(weight: Array, everywhere: float, centre: float) -> Array:
    """`everywhere`·w at every tap plus `centre`·w at the spatial centre; same shape.

    The centre of an even extent K is K // 2, the pixel a pad of K // 2 aligns with the output.
    A kernel without spatial axes is all centre.
    Source: notebook 001, −0.2·w + 2·w(centre), "edge preserving".
    """
    extents = weight.shape[2:]
    factors = np.full(extents, everywhere)
    factors[tuple(extent // 2 for extent in extents)] += centre
    result = np.empty_like(weight)
    np.multiply(weight, factors, out=result, dtype=np.float64, casting="same_kind")
    return result


def without(weight: Array, added: Callable[[slice], Matrix]) -> Array:
    """`weight` (N, C/G, *K) less another kernel, in float64, rounded once.

    `added(columns)` is the other kernel for some of the input channels, taken in turn: it need
    never be whole.
    """
    rest = np.empty_like(weight)
    step = max(MAX_VALUES // max(weight[:, :1].size, 1), 1)
    for start in range(0, weight.shape[1], step):
        columns = slice(start, start + step)
        rest[:, columns] = weight[:, columns] - added(columns)
    return rest
