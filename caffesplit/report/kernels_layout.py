"""Where a layer's kernels stand in their picture: as tiles, as rows of tiles, or as a matrix."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from caffesplit.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, np.dtype[Any]]
Numbers = Sequence[int]
Tpm = Sequence[float | None]

ROOM = style.WIDTH - 0.5
"""Inches between the figure's edges."""
BETWEEN = 0.3
"""Inches between two panels side by side."""

DIVERGING = "RdBu_r"
"""Red and blue: told apart by colour-blind readers; white is 0."""

TILE = 0.62
"""Inches of a tile with its gap, at most."""
LABEL = 0.15
"""Inches for the text under a tile, or the least height of a row with one."""

MOST_TILES, MOST_ROWS, MOST_CHANNELS, MOST_MATRIX = 112, 32, 32, 1024
"""Kernels, or channels, that are shown where nothing else is asked for."""


@dataclass(frozen=True)
class Layout(ABC):
    """How each part of a layer's kernels is drawn; sizes in inches.

    `kernels` and `channels` are how many of them are shown at most, of `all_channels`.
    """

    kernels: int
    channels: int
    all_channels: int
    extents: tuple[int, int]
    panel_width: float
    """From one panel to the next."""
    colours: str = DIVERGING
    left: float = 0.0
    """For labels at the left of a panel."""
    below: float = 0.0
    """For labels under it."""

    @property
    def inside(self) -> float:
        """The width that a panel's picture may have."""
        return self.panel_width - BETWEEN - self.left

    @abstractmethod
    def width(self, kernels: int) -> float:
        """The width of a part of so many kernels."""

    @abstractmethod
    def height(self, kernels: int) -> float:
        """Its height."""

    @abstractmethod
    def draw(self, axes: Axes, stack: Array, numbers: Numbers, tpm: Tpm, scale: float) -> None:
        """Draw those of a stack (N, C, KH, KW) into axes of that size; ±`scale` has full colour."""


def layout(shape: tuple[int, ...], panels: int, most: int | None) -> Layout:
    """The layout for kernels (N, C, KH, KW), in so many panels side by side."""
    channels, height, width = shape[1:]
    panel = (ROOM + BETWEEN) / panels
    if height * width == 1:
        shown = min(channels, MOST_MATRIX)
        return Matrix(most or MOST_MATRIX, shown, channels, (1, 1), panel, left=0.45, below=0.35)
    if channels in (1, 3):
        colours = "gray" if channels == 3 else DIVERGING
        return Tiles(most or MOST_TILES, channels, channels, (height, width), panel, colours)
    shown = min(channels, MOST_CHANNELS // panels)
    return Rows(most or MOST_ROWS, shown, channels, (height, width), panel, left=0.75)


class Tiles(Layout):
    """Each kernel as one picture, its number (and TPM) below."""

    def _columns(self, kernels: int) -> int:
        return min(int(self.inside / TILE), kernels)

    @property
    def _pixel(self) -> float:
        """Inches per weight."""
        return TILE / (max(self.extents) + 1)

    @property
    def _cell(self) -> tuple[int, int]:
        """Weights that a tile takes up with its gaps, the text's below it."""
        return self.extents[0] + math.ceil(LABEL / self._pixel), max(self.extents) + 1

    def width(self, kernels: int) -> float:
        return self._columns(min(kernels, self.kernels)) * self._cell[1] * self._pixel

    def height(self, kernels: int) -> float:
        shown = min(kernels, self.kernels)
        return math.ceil(shown / self._columns(shown)) * self._cell[0] * self._pixel

    def draw(self, axes: Axes, stack: Array, numbers: Numbers, tpm: Tpm, scale: float) -> None:
        numbers = numbers[: self.kernels]
        columns = self._columns(len(numbers))
        (high, wide), (height, width) = self._cell, self.extents
        canvas = np.ones((math.ceil(len(numbers) / columns) * high, columns * wide, 3))
        for place, number in enumerate(numbers):
            row, column = divmod(place, columns)
            top, left = row * high, column * wide
            canvas[top : top + height, left : left + width] = self._coloured(stack[number], scale)
            axes.text(
                left + width / 2 - 0.5, top + height - 0.3, _label(number, tpm, place),
                ha="center", va="top", fontsize=6, color="#444444",
            )  # fmt: skip
        _show(axes, canvas)

    def _coloured(self, kernel: Array, scale: float) -> Array:
        """A kernel (C, KH, KW) as (KH, KW, 3): red, green and blue, or the colours of values."""
        if len(kernel) == 1:
            return coloured(kernel[0], scale)
        shades = np.clip(0.5 + kernel / (2 * scale), 0, 1)
        return np.where(np.isfinite(shades), shades, 0).transpose(1, 2, 0)


class Rows(Layout):
    """Each kernel as a row of its channels, its number (and TPM) at the left."""

    @property
    def _pixel(self) -> float:
        _, width = self.extents
        return min(self.inside / (self.channels * (width + 1)), TILE / (max(self.extents) + 1))

    @property
    def _high(self) -> int:
        """Weights that a row takes up with its gap."""
        return max(self.extents[0] + 1, math.ceil(LABEL / self._pixel))

    def width(self, kernels: int) -> float:
        return self.channels * (self.extents[1] + 1) * self._pixel

    def height(self, kernels: int) -> float:
        return min(kernels, self.kernels) * self._high * self._pixel

    def draw(self, axes: Axes, stack: Array, numbers: Numbers, tpm: Tpm, scale: float) -> None:
        numbers = numbers[: self.kernels]
        height, width = self.extents
        canvas = np.ones((len(numbers) * self._high, self.channels * (width + 1), 3))
        for place, number in enumerate(numbers):
            top = place * self._high
            for channel, values in enumerate(stack[number, : self.channels]):
                left = channel * (width + 1)
                canvas[top : top + height, left : left + width] = coloured(values, scale)
            axes.text(
                -1.5, top + height / 2 - 0.5, _label(number, tpm, place),
                ha="right", va="center", fontsize=6, color="#444444",
            )  # fmt: skip
        _show(axes, canvas)


class Matrix(Layout):
    """All kernels as one matrix: a kernel is a row, an input channel a column."""

    @property
    def _pixel(self) -> float:
        return min(self.inside / self.channels, 0.16)

    def width(self, kernels: int) -> float:
        return self.channels * self._pixel

    def height(self, kernels: int) -> float:
        """Rows are as high as columns are wide, but never so thin that none can be seen."""
        return max(min(kernels, self.kernels) * self._pixel, 0.3)

    def draw(self, axes: Axes, stack: Array, numbers: Numbers, tpm: Tpm, scale: float) -> None:
        from matplotlib.ticker import MaxNLocator

        numbers = numbers[: self.kernels]
        matrix = stack[list(numbers), : self.channels, 0, 0]
        axes.imshow(coloured(matrix, scale), aspect="auto", interpolation="nearest")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(
            lambda row, _: str(numbers[int(row)]) if 0 <= row < len(numbers) else ""
        )
        axes.tick_params(labelsize="x-small", length=2)
        axes.set_xlabel("input channel", fontsize="x-small", color=style.QUIET, labelpad=1)
        axes.set_ylabel("kernel", fontsize="x-small", color=style.QUIET, labelpad=1)
        axes.spines[:].set_visible(False)


def coloured(values: Array, scale: float) -> Array:
    """The colours (…, 3) of values; black where they are no finite numbers."""
    import matplotlib as mpl

    colours: Array = mpl.colormaps[DIVERGING](0.5 + values / (2 * scale))[..., :3]
    return np.where(np.isfinite(values)[..., None], colours, 0)


def _label(number: int, tpm: Tpm, place: int) -> str:
    if not tpm:
        return str(number)
    value = tpm[place]
    return f"{number} · {'–' if value is None else f'{value:.2f}'}"


def _show(axes: Axes, canvas: Array) -> None:
    axes.imshow(canvas, aspect="auto", interpolation="nearest")
    axes.axis("off")
