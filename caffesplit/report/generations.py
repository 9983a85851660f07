"""What chains of splits and their controls reached, generation by generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffesplit.errors import NetError
from caffesplit.report import style
from caffesplit.report.labels import Label, label_ends, panel_height

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 4.0
"""Inches."""

APART = 0.03
"""Generations between lines, so that their bars do not hide each other."""


@dataclass(frozen=True)
class Point:
    """What the nets of a line reached in a generation: mean and standard deviation."""

    line: str
    generation: int
    mean: float
    deviation: float


def generations(points: Sequence[Point], label: str) -> Figure:
    """Draw a line for each chain and kind of control, with bars of a standard deviation.

    Raises:
        NetError: if there is nothing to draw.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(point.line for point in points))
    if not names:
        raise NetError("no chain to draw", "nets of a chain that have been trained")
    height = panel_height(PANEL, len(names))
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(style.WIDTH, height), layout="constrained")
        axes = figure.subplots()
        labels = []
        for index, name in enumerate(names):
            own = sorted((each for each in points if each.line == name), key=_generation)
            shift = APART * (index - (len(names) - 1) / 2)
            x = np.array([point.generation + shift for point in own])
            y = [point.mean for point in own]
            bars = [point.deviation for point in own]
            look = style.line_look(index)
            axes.errorbar(x, y, bars, marker="o", markersize=4, capsize=3, **look, **style.STRONG)
            labels.append(Label(index, y[-1], name))
        labels.sort(key=lambda each: -each.value)
        axes.set_title(f"{label}: mean over the seeds, and a standard deviation")
        axes.set_xlabel("generation")
        axes.set_ylabel(label.lower())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_ends(axes, labels, height)
    return figure


def _generation(point: Point) -> int:
    return point.generation
