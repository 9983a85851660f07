"""TPM and norms of nets beside each other, over windows of training: a column for each net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from caffesplit.errors import NetError
from caffesplit.metric.trajectory import Window
from caffesplit.report import style
from caffesplit.report.panels import draw, mark_empty, write_iterations
from caffesplit.report.points import Points, drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PANEL = 4.2, 2.8
"""Inches: the width of a net's column, the height of a panel."""

CHARACTERS = 110
"""Of a legend's line, 9 of them for each key's stroke."""

MOST_NAMED = 20
"""Layers with a colour and a name; further ones are drawn in gray."""


@dataclass(frozen=True)
class Measure:
    """How a layer of a net has moved in a window: TPM, and the norm at the window's two ends.

    `walk` is the TPM of a random walk of as many steps.
    """

    net: str
    layer: str
    window: Window
    tpm: float
    start: float
    end: float
    walk: float


def tpm_and_norms(measures: Sequence[Measure]) -> Figure:
    """Draw TPM above and norms below, a column for each net, a line for each layer, all columns
    on the same scales.

    A dot of TPM is in the middle of its window, a thin line reaches over it; dots of norms are at
    the ends of windows.

    Raises:
        NetError: if there is nothing to draw.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    nets = list(dict.fromkeys(each.net for each in measures))
    layers = list(dict.fromkeys(each.layer for each in measures))
    if not nets:
        raise NetError("no layer with kernels to draw", "a convolution or an inner product")
    walk = {"color": style.QUIET, **style.REFERENCE}
    with mpl.rc_context(style.RC):
        width = max(style.WIDTH, COLUMN * len(nets))
        figure = Figure(figsize=(width, 2 * PANEL + 0.6), layout="constrained")
        panels = figure.subplots(2, len(nets), sharex=True, sharey="row", squeeze=False)
        for (above, below), net in zip(panels.T, nets, strict=True):
            for each in measures:
                above.plot(each.window, [each.walk] * 2, **walk)
            for index, layer in reversed(list(enumerate(layers))):
                own = [each for each in measures if (each.net, each.layer) == (net, layer)]
                own.sort(key=lambda each: (sum(each.window), each.window))
                if own:
                    _draw(above, below, own, _look(index))
            above.set_title(net, fontweight="bold")
            write_iterations(below)
        panels[0, 0].set_ylabel("TPM, mean of each layer")
        panels[1, 0].set_ylabel("L2 norm of the weights")
        keys = [Line2D([], [], label=name, **_look(i)) for i, name in enumerate(layers)]
        keys = [*keys[:MOST_NAMED], Line2D([], [], label="random walk", **walk)]
        figure.legend(handles=keys, loc="outside upper center", ncols=_columns(layers))
        mark_empty(panels.flat)
        figure.align_ylabels()
    return figure


def _draw(above: Axes, below: Axes, own: Sequence[Measure], look: dict[str, Any]) -> None:
    dots = {"marker": "o", "markersize": 4}
    middles = np.array([sum(each.window) / 2 for each in own])
    tpm = drawable([each.tpm for each in own])
    draw(above, Points(middles, tpm), look | dots, style.STRONG)
    for each, value in zip(own, tpm, strict=True):
        above.plot(each.window, (value, value), color=look["color"], **style.FAINT)
    at = {each.window[0]: each.start for each in own} | {each.window[1]: each.end for each in own}
    iterations = sorted(at)
    norms = drawable([at[iteration] for iteration in iterations])
    draw(below, Points(np.array(iterations, float), norms), look | dots, style.STRONG)


def _columns(names: Sequence[str]) -> int:
    """Of a legend with these names, and one more."""
    return max(1, min(len(names) + 1, CHARACTERS // (max(map(len, names)) + 9)))


def _look(index: int) -> dict[str, Any]:
    return style.line_look(index) if index < MOST_NAMED else {"color": style.PALE}
