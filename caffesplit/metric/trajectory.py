"""TPM: how straight each kernel travels through a window of training; its entropy; norms.

A kernel that goes straight has TPM 1, one that returns to its start 0, a random walk of n steps
about 1/√n. High entropy means diverse kernels, which makes a layer worth splitting.
Source: the notebooks' figures; 003's entropies are those of 10 bins over [0, 1], in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from caffesplit.errors import SnapshotError
from caffesplit.metric.distance import kernel_distances
from caffesplit.metric.history import ONE_NET, Array, History

Window = tuple[int, int]
Progress = Callable[[int, int], None]
"""Is called with the steps done and their total, as work goes on."""

PAIRS_AT_ONCE = 8
"""Pairs of snapshots compared together: they share conversions, and few files are open."""


@dataclass(frozen=True, eq=False)
class LayerScores:
    """A layer's TPM in a window: one per kernel, (N,), float64 in [0, 1], NaN where undefined.

    `shape` is that of the weights, kernels first. A kernel that never moved is undefined, and
    so is one that held NaN or infinity in some snapshot; `diverged` counts the latter.
    """

    name: str
    shape: tuple[int, ...]
    kernels: Array
    diverged: int = 0

    @property
    def num_output(self) -> int:
        return self.shape[0]

    @property
    def weights(self) -> int:
        """How many weights the layer has, biases left out."""
        return prod(self.shape)

    @property
    def undefined(self) -> int:
        """How many kernels have no TPM."""
        return int(np.isnan(self.kernels).sum())

    @property
    def tpm(self) -> float:
        """The mean over the kernels that have a TPM; NaN if none has."""
        return _mean(self.kernels)

    def entropy(self, bins: int = 10) -> float:
        """Shannon entropy in nats of the kernels' histogram in equal bins over [0, 1].

        Undefined kernels are left out; with no others it is NaN.
        """
        counts, _ = np.histogram(self.kernels[~np.isnan(self.kernels)], bins, (0, 1))
        if not counts.any():
            return float("nan")
        shares = counts[counts > 0] / counts.sum()
        return float(shares @ np.log(1 / shares))


@dataclass(frozen=True)
class WindowScores:
    """The scores of some layers in a window, from the snapshots at `iterations`."""

    window: Window
    iterations: tuple[int, ...]
    layers: tuple[LayerScores, ...]

    @property
    def random_walk(self) -> float:
        """The TPM of a random walk of as many steps, in as many dimensions as one likes."""
        return float((len(self.iterations) - 1) ** -0.5)

    def mean_entropy(self, bins: int = 10) -> float:
        """The plain mean over the layers that have an entropy; NaN if none has."""
        return _mean(np.array([layer.entropy(bins) for layer in self.layers]))


@dataclass(frozen=True)
class LayerNorms:
    """L2 norm of a layer's weights at a window's first and last snapshot."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class WindowNorms:
    """The norms of some layers in a window, from its first and last of `iterations`."""

    window: Window
    iterations: tuple[int, ...]
    layers: tuple[LayerNorms, ...]


def scores(
    history: History,
    windows: Sequence[Window],
    layers: Sequence[str],
    progress: Progress | None = None,
) -> tuple[WindowScores, ...]:
    """Return the TPM of every kernel of `layers` in every window (first, last), inclusive.

    Windows may overlap: each step between two snapshots is taken once. Snapshots are loaded as
    they are needed; what stays in memory does not grow with their number.

    Raises:
        SnapshotError: if a window holds fewer than two snapshots, or they are of different nets.
    """
    walks = [_Walk(window, history.within(window)) for window in windows]
    # In the order of their later snapshot, a step shares a snapshot with the step before it.
    pairs = sorted(set().union(*(walk.pairs for walk in walks)), key=lambda pair: pair[::-1])
    shapes = [one.shape for one in history.weights(pairs[0][0], layers)] if pairs else []
    for pair, distances in _walked(history, pairs, layers, shapes, progress):
        for walk in walks:
            walk.add(pair, distances)
    return tuple(walk.scores(layers, shapes) for walk in walks)


def norms(
    history: History, windows: Sequence[Window], layers: Sequence[str]
) -> tuple[WindowNorms, ...]:
    """Return the norms of `layers` at the first and last snapshot of every window.

    Raises:
        SnapshotError: if a window holds fewer than two snapshots, or one lacks a layer.
    """
    spans = [history.within(window) for window in windows]
    ends = sorted({iteration for span in spans for iteration in (span[0], span[-1])})
    at = {iteration: _norms(history.weights(iteration, layers)) for iteration in ends}
    return tuple(
        WindowNorms(
            window,
            span,
            tuple(map(LayerNorms, layers, at[span[0]], at[span[-1]])),
        )
        for window, span in zip(windows, spans, strict=True)
    )


class _Walk:
    """How far every kernel of all layers has come in a window: its path, its displacement."""

    def __init__(self, window: Window, iterations: tuple[int, ...]) -> None:
        self._window, self._iterations = window, iterations
        self._steps = set(pairwise(iterations))
        self._ends = iterations[0], iterations[-1]
        self._path = self._displacement = np.zeros(())

    @property
    def pairs(self) -> set[tuple[int, int]]:
        """The pairs of iterations whose distances the window needs."""
        return {*self._steps, self._ends}

    def add(self, pair: tuple[int, int], distances: Array) -> None:
        """Take in the distances (K,) of all kernels between two snapshots, if they count here."""
        if pair in self._steps:
            self._path = self._path + distances
        if pair == self._ends:
            self._displacement = distances

    def scores(self, layers: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> WindowScores:
        """The scores, once all pairs were taken in."""
        with np.errstate(all="ignore"):
            # Rounding may leave a straight path a little shorter than its displacement.
            tpm = np.minimum(self._displacement / self._path, 1)
        diverged = ~np.isfinite(self._path)
        tpm[diverged] = np.nan
        parts = zip(
            layers, shapes, _by_layer(tpm, shapes), _by_layer(diverged, shapes), strict=True
        )
        return WindowScores(
            self._window,
            self._iterations,
            tuple(
                LayerScores(name, shape, kernels, int(lost.sum()))
                for name, shape, kernels, lost in parts
            ),
        )


def _walked(
    history: History,
    pairs: Sequence[tuple[int, int]],
    layers: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    progress: Progress | None,
) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield every pair with the distances (K,) of all kernels between its two snapshots."""
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        batch = pairs[first : first + PAIRS_AT_ONCE]
        iterations = sorted({iteration for pair in batch for iteration in pair})
        states = [history.weights(iteration, layers) for iteration in iterations]
        for iteration, weights in zip(iterations, states, strict=True):
            for name, one, shape in zip(layers, weights, shapes, strict=True):
                if one.shape != shape:
                    raise SnapshotError(
                        f'layer "{name}" has weights of shape {one.shape} at iteration {iteration}',
                        f"{shape} as at iteration {pairs[0][0]}",
                        ONE_NET,
                    )
        places = [(iterations.index(a), iterations.index(b)) for a, b in batch]
        yield from zip(batch, kernel_distances(states, places), strict=True)
        if progress:
            progress(first + len(batch), len(pairs))


def _norms(weights: Sequence[Array]) -> list[float]:
    """The L2 norm of every array: the distance of all its kernels from zero."""
    zero = [np.broadcast_to(np.float32(0), array.shape) for array in weights]
    (norms,) = kernel_distances([zero, weights], [(0, 1)])
    return [float(np.linalg.norm(part)) for part in _by_layer(norms, [a.shape for a in weights])]


def _by_layer(values: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Cut the values (K,) of all kernels into those (N,) of each layer."""
    return np.split(values, np.cumsum([shape[0] for shape in shapes], dtype=int))[:-1]


def _mean(values: Array) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
