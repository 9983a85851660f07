"""Points of a curve: what can be drawn of them, averaged, and thinned to what a picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

LARGEST = float(np.finfo(np.float32).max)
"""Caffe computes in float32; a greater number is no value of Caffe's, and cannot be drawn."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Points:
    """A curve's points, x (N,) and y (N,); y is nan where there is nothing to draw."""

    x: Array
    y: Array

    @property
    def last(self) -> float:
        """The last y; nan if there is none."""
        return float(self.y[-1]) if len(self.y) else float("nan")

    def smoothed(self, count: int) -> Points:
        """With means over `count` points, as `smoothed` has them."""
        return Points(self.x, smoothed(self.y, count))

    def thinned(self, columns: int) -> Points:
        """Those of the points that a picture so many pixels wide shows, peaks included.

        Of the points in a column of pixels the first, the last, the lowest and the highest
        remain, and a nan. Source: Jugel et al., M4 (VLDB 2014).
        """
        if len(self.x) <= 4 * columns:
            return self
        width = np.ptp(self.x) / columns or 1.0
        column = ((self.x - self.x.min()) / width).astype(np.int64)
        ends = np.flatnonzero(np.diff(column, append=column[-1] + 1))
        starts = np.append(0, ends[:-1] + 1)
        group = np.repeat(np.arange(len(ends)), ends - starts + 1)
        rising = np.lexsort((self.y, group))  # Within each column, nan last.
        numbers = np.add.reduceat(~np.isnan(self.y), starts)
        highest = starts + np.maximum(numbers - 1, 0)
        kept = np.unique(np.concatenate((starts, ends, rising[[*starts, *highest, *ends]])))
        return Points(self.x[kept], self.y[kept])

    def alone(self) -> Points:
        """Those of the points that no line reaches: neither neighbour is there to be drawn."""
        there = np.concatenate(([False], ~np.isnan(self.y), [False]))
        lonely = there[1:-1] & ~there[:-2] & ~there[2:]
        return Points(self.x[lonely], self.y[lonely])


def drawable(values: Sequence[float]) -> Array:
    """The values, nan in place of those that no axis can show."""
    array = np.array(values, dtype=np.float64)
    array[np.abs(array) > LARGEST] = np.nan
    return array


def smoothed(values: Array, count: int) -> Array:
    """Means over `count` values (one more if even) around each one; shape (N,) like `values`.

    Near the ends they are over fewer, as many before as after: the first and the last value
    are their own means. A nan makes the means around it nan.
    """
    reach = min(count // 2, (len(values) - 1) // 2)
    means = values.copy()
    for place in range(reach):
        means[place] = values[: 2 * place + 1].mean()
        means[-1 - place] = values[-1 - 2 * place :].mean()
    if reach > 0:
        means[reach:-reach] = sliding_window_view(values, 2 * reach + 1).mean(axis=1)
    return means
