"""What the panels of all figures have in common: curves, legends, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from caffesplit.report import style
from caffesplit.report.points import Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

FEW_DECADES = 1e3
"""Up to this ratio, a logarithmic axis also has numbers between the powers of ten."""


def draw(axes: Axes, points: Points, look: dict[str, Any], stroke: dict[str, Any]) -> None:
    """Draw a curve, and as dots those of its points that no line reaches."""
    axes.plot(points.x, points.y, **look, **stroke)
    alone = points.alone()
    if len(alone.x):
        alpha = stroke.get("alpha")
        axes.plot(alone.x, alone.y, "o", color=look["color"], markersize=3, alpha=alpha)


def legend_above(axes: Axes, keys: Sequence[Line2D]) -> None:
    """Explain strokes, each by its label, over the right end of a panel."""
    if not keys:
        return
    axes.legend(
        handles=keys, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(keys),
        borderaxespad=0.1, handlelength=1.8,
    )  # fmt: skip


def make_logarithmic(axes: Axes) -> None:
    """Give a panel, whose values are not all below zero, a logarithmic scale with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    subdivisions = (1, 2, 5) if highest < FEW_DECADES * lowest else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subdivisions, numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def mark_empty(panels: Iterable[Axes]) -> None:
    """Say in panels where nothing was drawn that this is so, in place of numbers on their axes."""
    panels = list(panels)
    empty = [axes for axes in panels if not math.isfinite(axes.dataLim.height)]
    for axes in empty:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no finite value", transform=axes.transAxes,
            ha="center", va="center", color=style.QUIET,
        )  # fmt: skip
    if empty == panels:
        panels[-1].set_xticks([])


def write_iterations(axes: Axes) -> None:
    """Number a panel's horizontal axis in whole iterations."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("iteration")
    axes.xaxis.set_major_formatter(lambda iteration, _: f"{iteration:,.0f}")
    first, last = axes.dataLim.intervalx
    if first == last:
        axes.set_xticks([first])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 2.5, 5, 10]))
