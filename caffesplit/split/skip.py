"""The skip form's fixed convolution: where on the bottom it reads, and what it adds.

Along each spatial axis it reads one pixel per output ("sample"), or the mean of as many as the
stride is long ("average"). A kernel of just these taps serves wherever its output is as large as
the split layer's; elsewhere the taps are put into a kernel of the layer's own geometry.

Source: notebook 002, a 1×1 identity at the layer's stride, or average pooling.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.split import kernels
from caffesplit.split.geometry import Geometry
from caffesplit.split.kernels import Array
from caffesplit.split.linear import Axis

STRIDES = ("sample", "average")
"""What a skip does where the split layer has a stride."""


def skip_axes(
    base: Geometry, flow: str, sizes: Sequence[int] | None
) -> tuple[tuple[Axis, ...], tuple[tuple[int, ...], ...]]:
    """The skip's geometry and, along each of its axes, the taps that it uses.

    `sizes` are the bottom's spatial extents in pixels, where known.

    Raises:
        SplitError: if there is no skip of this flow with outputs of the split layer's size.
    """
    read = [axis.stride if flow == "average" else 1 for axis in base.axes]
    known: Sequence[int | None] = sizes or [None] * len(read)
    own = [_axis_of_equal_size(*each) for each in zip(base.axes, read, known, strict=True)]
    axes = tuple(axis for axis in own if axis)
    if len(axes) == len(base.axes):
        return axes, tuple(tuple(range(axis.kernel)) for axis in axes)
    return base.axes, tuple(map(_taps_within, base.axes, read))


def kernel(
    outputs: int, inputs: int, base: Geometry, axes: tuple[Axis, ...], taps: Sequence[Sequence[int]]
) -> Array:
    """The skip's weights (N, C/G, *K): over its taps, the mean of the channel of equal number."""
    weight = np.zeros((outputs, inputs // base.group, *(axis.kernel for axis in axes)), np.float32)
    matrices = np.moveaxis(weight, (0, 1), (-2, -1))
    places = list(itertools.product(*taps))
    for place in places:
        matrices[place][kernels.copied(outputs, inputs, base.group)] = 1 / len(places)
    return weight


def within(weight: Array, axes: tuple[Axis, ...], base: Geometry) -> Array:
    """The skip's kernel as one of the base's geometry.

    Raises:
        SplitError: if a pixel that it reads is none that the base reads.
    """
    outside = [
        (pixel, axis.taps)
        for own, axis in zip(axes, base.axes, strict=True)
        for pixel in own.taps
        if pixel not in axis.taps
    ]
    if outside:
        pixel, legal = outside[0]
        raise SplitError(
            f"a skip that reads at pixel offset {pixel}, where the kernel to be split does not "
            f"(it reads at {', '.join(map(str, legal))})",
            "taps to subtract it from, for an exact start",
            "Split without --preserve, or by another method.",
        )
    if axes == base.axes:
        return weight
    taps = [
        [axis.taps.index(pixel) for pixel in own.taps]
        for own, axis in zip(axes, base.axes, strict=True)
    ]
    placed = np.zeros((*weight.shape[:2], *(axis.kernel for axis in base.axes)), np.float32)
    placed[np.ix_(*map(range, weight.shape[:2]), *taps)] = weight
    return placed


def _axis_of_equal_size(axis: Axis, read: int, size: int | None) -> Axis | None:
    """An axis that reads so many pixels and gives as many outputs as `axis`.

    For bottoms of any size if there is such a one, else for the known size alone. What reads one
    pixel may have to be padded; means are taken from the first pixel on.
    """
    bare = Axis(read, axis.stride)
    pad, odd = divmod(axis.surplus - bare.surplus, 2)
    if not odd and (pad == 0 or (pad > 0 and read == 1)):
        return replace(bare, pad=pad)
    return bare if size and _outputs(bare, size) == _outputs(axis, size) else None


def _outputs(axis: Axis, size: int) -> int:
    """How many outputs an axis has over so many pixels (compute_output_shape, conv_layer.cpp)."""
    return (size + axis.surplus - 1) // axis.stride + 1


def _taps_within(axis: Axis, read: int) -> tuple[int, ...]:
    """The taps of a kernel that lie on the pixels 0 … `read` − 1; of one pixel, at least near."""
    if all(pixel in axis.taps for pixel in range(read)):
        return tuple(axis.taps.index(pixel) for pixel in range(read))
    if read == 1:
        return (axis.kernel // 2,)
    raise SplitError(
        f"a kernel of {axis.kernel} with pad {axis.pad}, stride {axis.stride} and dilation "
        f"{axis.dilation}",
        f"taps on the {read} pixels that an average skip takes the mean of",
        "Choose --skip-stride sample.",
    )
