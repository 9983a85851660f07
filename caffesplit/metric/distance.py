"""Distances between the kernels of several states of a net, at the speed of memory.

Block by block, kernels are converted to float64 once per state and compared while they are in
the processor's cache. float32 differences would be wrong in the eighth digit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import ceil, prod

import numpy as np

from caffesplit.metric.history import Array

Pair = tuple[int, int]

SCRATCH = 2**20
"""float64 values a thread works in (8 MiB), shared by the states that are compared."""

MAX_WORKERS = 8
"""Threads; these many read memory as fast as it goes."""

MAX_DOT = 2**13
"""Values in one dot product. OpenBLAS starts threads of its own above 10,000."""


def kernel_distances(
    states: Mapping[int, Sequence[Array]],
    pairs: Sequence[tuple[int, int]],
    workers: int | None = None,
) -> Array:
    """Return ‖a − b‖₂ of every kernel for pairs (a, b) of states: (P, K), float64.

    `states` gives each state's weights, layer by layer, (N, ...) with kernels on axis 0; a
    layer's shape is the same in all of them. K counts the kernels of all layers, in order.
    A pair is fast where it shares a state with the one before it. The number of `workers`
    (threads; by default one per processor) does not change a bit of the result.
    """
    shapes = [weights.shape for weights in next(iter(states.values()))]
    starts = np.cumsum([0] + [shape[0] for shape in shapes])
    distances = np.empty((len(pairs), starts[-1]))
    block = SCRATCH // (len(states) + 1)
    tasks = [
        (layer, first, min(first + rows, shape[0]))
        for layer, shape in enumerate(shapes)
        for rows in [max(1, block // max(1, prod(shape[1:])))]
        for first in range(0, shape[0], rows)
    ]

    def work(share: Sequence[tuple[int, int, int]]) -> None:
        scratch = np.empty(SCRATCH)
        # What a diverged net holds overflows or is NaN already; it shows in the result.
        with np.errstate(all="ignore"):
            for layer, first, last in share:
                kernels = {state: layers[layer][first:last] for state, layers in states.items()}
                out = distances[:, starts[layer] + first : starts[layer] + last]
                np.sqrt(_squares(kernels, pairs, scratch), out=out)

    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, [tasks[first::workers] for first in range(workers)]):
            pass
    return distances


def _squares(states: Mapping[int, Array], pairs: Sequence[Pair], scratch: Array) -> Array:
    """‖a − b‖₂², (P, N), of kernels (N, ...) that fit into `scratch` at least one by one."""
    count, *rest = next(iter(states.values())).shape
    size = prod(rest)
    kernels = {state: weights.reshape(count, size) for state, weights in states.items()}
    squares = np.zeros((len(pairs), count))
    targets = _targets(pairs)
    for columns in _cuts(size, SCRATCH // (len(states) + 1)):
        width = columns.stop - columns.start
        shape = (len(states) + 1, count, width)
        *blocks, spare = scratch[: prod(shape)].reshape(shape)
        held = dict(zip(states, blocks, strict=True))
        for state, block in held.items():
            np.copyto(block, kernels[state][:, columns])
        for number, ((a, b), target) in enumerate(zip(pairs, targets, strict=True)):
            out = spare if target is None else held[target]
            difference = np.subtract(held[b], held[a], out=out)
            for part in _cuts(width, MAX_DOT):
                row, column = difference[:, None, part], difference[:, part, None]
                squares[number] += np.matmul(row, column)[:, 0, 0]
    return squares


def _targets(pairs: Sequence[Pair]) -> list[int | None]:
    """For each pair, a state of it that no later pair needs, so that it may be overwritten."""
    last_use = {state: number for number, pair in enumerate(pairs) for state in pair}
    return [
        next((state for state in pair if last_use[state] == number), None)
        for number, pair in enumerate(pairs)
    ]


def _cuts(size: int, limit: int) -> list[slice]:
    """As few parts of `size` as the limit on theirs allows, as equal as they can be."""
    parts = ceil(size / limit)
    bounds = [size * part // max(parts, 1) for part in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]
