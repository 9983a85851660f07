"""A net's weights over its training: which iterations there are, and how to load one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.errors import SnapshotError, listed

Array = np.ndarray[Any, np.dtype[Any]]

KERNEL_TYPES = ("Convolution", "Deconvolution", "InnerProduct")
"""Layer types whose first blob is a row of kernels, one per output channel."""


@dataclass(frozen=True)
class History:
    """Snapshots of one net.

    `iterations` ascend. `load(iteration)` gives each layer's weights (N, C/G, KH, KW), or any
    other shape whose first axis is the output channel (see `kernels_first`), of any float type.
    """

    iterations: tuple[int, ...]
    load: Callable[[int], Mapping[str, Array]]

    def within(self, window: tuple[int, int]) -> tuple[int, ...]:
        """The iterations in a window, inclusive.

        Raises:
            SnapshotError: if they are fewer than two.
        """
        first, last = window
        inside = tuple(one for one in self.iterations if first <= one <= last)
        if len(inside) < 2:
            raise SnapshotError(
                f"{len(inside)} of {len(self.iterations)} snapshots in window {first}:{last}",
                "at least two",
                f"Choose another window; there are snapshots at {listed(self.iterations)}.",
            )
        return inside

    def weights(self, iteration: int, layers: Sequence[str]) -> list[Array]:
        """The weights of `layers` at an iteration.

        Raises:
            SnapshotError: if one of them is not there.
        """
        loaded = self.load(iteration)
        for name in layers:
            if name not in loaded:
                raise SnapshotError(
                    f'the snapshot at iteration {iteration} has no weights of layer "{name}"',
                    "the layers of the net",
                    ONE_NET,
                )
        return [loaded[name] for name in layers]


ONE_NET = "All snapshots must be of one net: are there older ones under the same prefix?"


def kernels_first(
    weights: Array, layer_type: str, transpose: bool = False, group: int = 1
) -> Array:
    """Return a layer's weight blob with its output channels on axis 0, as a view.

    Convolution: (N, C/G, KH, KW) as it is. InnerProduct: (N, K), or (K, N) with `transpose`;
    files of V0 and V1 put two axes of length 1 before them. Deconvolution: (C, N/G, KH, KW),
    returned as (N, C/G, KH, KW): copied if grouped, unless C/G or N/G is 1.

    Raises:
        SnapshotError: if the shape is none of the layer type's.

    Source: LayerSetUp in base_conv_layer.cpp and inner_product_layer.cpp, src/caffe/layers.
    """
    shape = weights.shape
    if layer_type == "InnerProduct" and len(shape) == 4 and shape[:2] == (1, 1):
        weights = weights.reshape(shape[2:])
    legal = weights.ndim == 2 if layer_type == "InnerProduct" else weights.ndim > 2
    if not legal or shape[0] % group:
        raise SnapshotError(
            f"weights of shape {shape}", f"those of a layer of type {layer_type}, group {group}"
        )
    if layer_type == "Deconvolution":
        inputs, outputs, *extent = shape
        by_group = weights.reshape(group, inputs // group, outputs, *extent).swapaxes(1, 2)
        weights = by_group.reshape(group * outputs, inputs // group, *extent)
    return weights.T if transpose else weights
