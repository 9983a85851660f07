"""TPM, entropy and norms of layers over several windows of training, a line for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from caffesplit.errors import NetError
from caffesplit.metric.trajectory import Window, WindowNorms, WindowScores
from caffesplit.report import style
from caffesplit.report.labels import Label, label_ends, panel_height
from caffesplit.report.panels import (
    draw,
    legend_above,
    make_logarithmic,
    mark_empty,
    write_iterations,
)
from caffesplit.report.points import Array, Points, drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PANEL_HEIGHT = 2.8
"""Inches."""

MOST_NAMED = 20
"""Layers with a colour and a label; further ones are drawn in gray."""


def tpm_windows(windows: Sequence[WindowScores], bins: int = 10) -> Figure:
    """Draw each layer's TPM and its entropy in each window, and the TPM of a random walk.

    A dot is in the middle of its window, a thin line reaches over it. Of many layers, those of
    highest mean entropy are named.

    Raises:
        NetError: if there is no layer to draw.
    """
    import matplotlib as mpl
    from matplotlib.lines import Line2D

    ordered = sorted(windows, key=lambda scores: (sum(scores.window), scores.window))
    spans = [scores.window for scores in ordered]
    tpm = np.array([[layer.tpm for layer in scores.layers] for scores in ordered])
    entropy = np.array([[layer.entropy(bins) for layer in scores.layers] for scores in ordered])
    order = np.argsort(-np.nan_to_num(entropy).mean(axis=0), kind="stable")
    names = [ordered[0].layers[index].name for index in order]
    with mpl.rc_context(style.RC):
        figure, (above, below) = _figure(names, 2)
        walk = {"color": style.QUIET, **style.REFERENCE}
        for scores in ordered:
            above.plot(scores.window, [scores.random_walk] * 2, **walk)
        for axes, values in ((above, tpm[:, order]), (below, entropy[:, order])):
            for index in reversed(range(len(names))):
                _draw_spans(axes, spans, values[:, index], _look(index))
        above.set_title("TPM, mean of each layer")
        above.set_ylabel("TPM")
        legend_above(above, [Line2D([], [], label="random walk", **walk), *_unnamed(names)])
        below.set_title(f"Entropy of each layer's TPM in {bins} bins")
        below.set_ylabel("entropy, nats")
        _label(above, names, tpm[-1, order])
        write_iterations(below)
        mark_empty((above, below))
        figure.align_ylabels()
    return figure


def norms(windows: Sequence[WindowNorms]) -> Figure:
    """Draw the L2 norm of each layer's weights at the first and last snapshot of each window.

    Norms that span more than a decade have a logarithmic axis. Of many layers, the net's first
    ones are named.

    Raises:
        NetError: if there is no layer to draw.
    """
    import matplotlib as mpl

    at: dict[int, list[float]] = {}
    for window in windows:
        at[window.iterations[0]] = [layer.start for layer in window.layers]
        at[window.iterations[-1]] = [layer.end for layer in window.layers]
    iterations = np.array(sorted(at), dtype=np.float64)
    values = np.array([drawable(at[iteration]) for iteration in sorted(at)])
    names = [layer.name for layer in windows[0].layers]
    with mpl.rc_context(style.RC):
        figure, (axes,) = _figure(names, 1)
        for index in reversed(range(len(names))):
            points = Points(iterations, values[:, index])
            draw(axes, points, _look(index) | {"marker": "o", "markersize": 4}, style.STRONG)
        axes.set_title("Norm of each layer's weights")
        legend_above(axes, _unnamed(names))
        axes.set_ylabel("L2 norm")
        if 0 < 10 * axes.dataLim.ymin < axes.dataLim.ymax:
            axes.set_ylabel("L2 norm, log scale")
            make_logarithmic(axes)
        _label(axes, names, values[-1])
        write_iterations(axes)
        mark_empty((axes,))
    return figure


def _figure(names: Sequence[str], number: int) -> tuple[Figure, Iterable[Axes]]:
    """A figure with so many panels for these layers, the first of them to be labelled."""
    from matplotlib.figure import Figure

    if not names:
        raise NetError("no layer with kernels to draw", "a convolution or an inner product")
    heights = [_labelled_height(names), *[PANEL_HEIGHT] * (number - 1)]
    figure = Figure(figsize=(style.WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(
        number, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    return figure, panels[:, 0]


def _labelled_height(names: Sequence[str]) -> float:
    return panel_height(PANEL_HEIGHT, min(len(names), MOST_NAMED))


def _look(index: int) -> dict[str, Any]:
    """The look of the layer at `index`, with those to be named first."""
    if index < MOST_NAMED:
        return style.line_look(index)
    return {"color": style.PALE}


def _draw_spans(axes: Axes, spans: Sequence[Window], values: Array, look: dict[str, Any]) -> None:
    """Draw a curve over the middles of spans of iterations, and how far each span reaches."""
    middles = np.array([(first + last) / 2 for first, last in spans])
    dots = {"marker": "o", "markersize": 4}
    draw(axes, Points(middles, values), look | dots, style.STRONG)
    for span, value in zip(spans, values, strict=True):
        axes.plot(span, (value, value), color=look["color"], **style.FAINT)


def _label(axes: Axes, names: Sequence[str], last: Array) -> None:
    labels = [
        Label(index, float(value), name)
        for index, (name, value) in enumerate(zip(names, last, strict=True))
    ]
    label_ends(axes, labels[:MOST_NAMED], _labelled_height(names))


def _unnamed(names: Sequence[str]) -> list[Line2D]:
    """What explains the gray lines, where there are some."""
    from matplotlib.lines import Line2D

    more = len(names) - MOST_NAMED
    return [Line2D([], [], label=f"{more} more layers", **_look(MOST_NAMED))] if more > 0 else []
