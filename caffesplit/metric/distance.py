"""Distances between the kernels of several states of a net, at the speed of memory.

Block by block, kernels are converted to float64 once per state and compared while they are in
the processor's cache. float32 differences would be wrong in the eighth digit.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil, prod

import numpy as np

from caffesplit.metric.history import Array

SCRATCH = 2**20
"""float64 values a thread works in (8 MiB). In smaller ones threads queue for Python."""

MAX_WORKERS = 8
"""Threads; these many read memory as fast as it goes."""

MAX_DOT = 2**13
"""Values in one dot product. OpenBLAS starts threads of its own above 10,000."""


def kernel_distances(
    states: Sequence[Sequence[Array]], pairs: Sequence[tuple[int, int]], workers: int | None = None
) -> Array:
    """Return ‖a − b‖₂ of every kernel for pairs (a, b) of states: (P, K), float64.

    A state is the weights of all layers, each (N, ...) with kernels on axis 0; a layer's shape
    is the same in all of them. K counts the kernels of all layers, in order. The number of
    `workers` (threads; by default one per processor) does not change a bit of the result.
    """
    spares, slots = _slots(pairs)
    block = SCRATCH // (spares + len(states))
    shapes = [weights.shape for weights in states[0]]
    starts = np.cumsum([0] + [shape[0] for shape in shapes])
    distances = np.empty((len(pairs), starts[-1]))
    tasks = []
    for layer, (kernels, *shape) in enumerate(shapes):
        rows = max(1, block // max(1, prod(_parts(prod(shape)))))
        tasks += [(layer, first, min(first + rows, kernels)) for first in range(0, kernels, rows)]

    def work(share: Sequence[tuple[int, int, int]]) -> None:
        scratch = _aligned(SCRATCH)
        # What a diverged net holds overflows or is NaN already; it shows in the result.
        with np.errstate(all="ignore"):
            for layer, first, last in share:
                kernels = [weights[layer][first:last] for weights in states]
                out = distances[:, starts[layer] + first : starts[layer] + last]
                np.sqrt(_squares(kernels, pairs, spares, slots, scratch), out=out)

    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, [tasks[first::workers] for first in range(workers)]):
            pass
    return distances


def _squares(
    states: Sequence[Array],
    pairs: Sequence[tuple[int, int]],
    spares: int,
    slots: Sequence[int],
    scratch: Array,
) -> Array:
    """‖a − b‖₂², (P, N), of kernels (N, ...): so few that they all fit in scratch, or one."""
    count, *rest = states[0].shape
    size = prod(rest)
    rows = [weights.reshape(count, size) for weights in states]
    squares = np.zeros((len(pairs), count))
    limit = len(scratch) // (spares + len(states)) // MAX_DOT * MAX_DOT
    for first in range(0, size, limit):
        last = min(first + limit, size)
        parts, length = _parts(last - first)
        shape = (spares + len(states), count, parts * length)
        blocks = scratch[: prod(shape)].reshape(shape)
        blocks[:, :, last - first :] = 0
        held = blocks[spares:]
        for row, block in zip(rows, held, strict=True):
            np.copyto(block[:, : last - first], row[:, first:last])
        for (a, b), slot in zip(pairs, slots, strict=True):
            np.subtract(held[b], held[a], out=blocks[slot])
        # One product for all slots: calls cost more than arithmetic.
        vectors = blocks[: 1 + max(slots)].reshape(-1, count, parts, 1, length)
        dots = np.matmul(vectors, vectors.swapaxes(3, 4)).sum(axis=(2, 3, 4))
        squares += dots[list(slots)]
    return squares


def _slots(pairs: Sequence[tuple[int, int]]) -> tuple[int, list[int]]:
    """Where each pair's difference goes, in a row of spare slots and then the states.

    It goes over a state that no later pair needs, or into a spare slot; returned are the number
    of those and each pair's slot.
    """
    last_use = {state: number for number, pair in enumerate(pairs) for state in pair}
    over = [
        a if last_use[a] == number else b if last_use[b] == number else None
        for number, (a, b) in enumerate(pairs)
    ]
    spares = over.count(None)
    free = iter(range(spares))
    return spares, [next(free) if state is None else spares + state for state in over]


def _aligned(size: int) -> Array:
    """Memory for float64 values, aligned to cache lines: wide stores that straddle two are slow."""
    values = np.empty(size + 7)
    start = -values.ctypes.data // values.itemsize % 8
    return values[start : start + size]


def _parts(size: int) -> tuple[int, int]:
    """The number and length of a row's parts; together they may be a little longer than it."""
    parts = max(1, ceil(size / MAX_DOT))
    return parts, ceil(size / parts)
