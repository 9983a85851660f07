"""Labels beside a panel: each line's last value and name, at its height if there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from caffesplit.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 0.21
"""Inches."""

MOST = 60
"""Labels beside a panel; with more it would be taller than any screen."""

LENGTH = 28
"""Characters of a name; the middle of a longer one is left out."""


@dataclass(frozen=True)
class Label:
    """What is written beside a line of the look at `index`. `value` is nan where there is none."""

    index: int
    value: float
    name: str
    note: str = ""


def panel_height(least: float, labels: int) -> float:
    """Inches of a panel with so many labels beside it."""
    return max(least, HEIGHT * (min(labels, MOST) + 3))


def label_ends(axes: Axes, labels: Sequence[Label], panel: float) -> None:
    """Write the labels, the first `MOST` of them, beside axes that are `panel` inches high."""
    from matplotlib.lines import Line2D

    shown = labels[:MOST]
    axes.autoscale_view()
    to_axes = axes.transScale + axes.transLimits
    heights = [
        min(max(to_axes.transform((0, label.value))[1], 0.0), 1.0)
        if math.isfinite(label.value)
        else 0.0
        for label in shown
    ]
    if any(math.isfinite(label.value) for label in shown):
        axes.annotate(
            "last value", (1.01, 1), (0, 9), "axes fraction", "offset points",
            fontsize="small", color=style.QUIET, annotation_clip=False,
        )  # fmt: skip
    places = spread(heights, HEIGHT / panel)
    numbers = alike([label.value for label in shown])
    for label, number, place in zip(shown, numbers, places, strict=True):
        look = style.line_look(label.index)
        text = f"{number}  {style.shortened(label.name, LENGTH)}{label.note}".strip()
        key = Line2D((1.01, 1.04), (place, place), transform=axes.transAxes, clip_on=False, **look)
        axes.add_artist(key)
        _write(axes, text, place)
    if len(labels) > MOST:
        _write(axes, f"and {len(labels) - MOST} more", min(places) - HEIGHT / panel)


def _write(axes: Axes, text: str, place: float) -> None:
    axes.annotate(
        text, (1.04, place), (5, 0), "axes fraction", "offset points",
        va="center", color=style.TEXT, annotation_clip=False,
    )  # fmt: skip


def alike(values: Sequence[float]) -> list[str]:
    """The values in four digits, with as many decimals each; nothing for a nan."""
    texts = [f"{value:.4g}" for value in values if not math.isnan(value)]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    form = ".4g" if any("e" in text for text in texts) else f".{decimals}f"
    return ["" if math.isnan(value) else f"{value:{form}}" for value in values]


def spread(heights: Sequence[float], spacing: float) -> list[float]:
    """Move heights in [0, 1] apart, so that neighbours are `spacing` from each other.

    Of equal heights the first comes to lie on top.
    """
    places = list(heights)
    order = sorted(range(len(places)), key=lambda index: (places[index], -index))
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + spacing)
    if order:
        places[order[-1]] = min(places[order[-1]], 1.0)
    for upper, lower in pairwise(order[::-1]):
        places[lower] = min(places[lower], places[upper] - spacing)
    return places
