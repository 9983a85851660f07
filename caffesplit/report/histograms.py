"""Histograms of TPM, a panel for each layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from caffesplit.errors import NetError
from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.report import style
from caffesplit.report.scores import by_entropy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
"""At most; four panels stand two by two."""

PANEL_HEIGHT = 1.6
HEAD_HEIGHT = 0.7
"""Inches."""

MOST_PANELS = 60
"""Layers that are drawn, those of highest entropy first."""

TITLE_LENGTH = 30
"""Characters of a layer's name; the middle of a longer one is left out."""

WALK: dict[str, Any] = {"color": style.COLOURS[1], **style.REFERENCE}
MEAN: dict[str, Any] = {"color": style.TEXT, "linewidth": 1.2}


def tpm_histograms(scores: WindowScores, bins: int = 10) -> Figure:
    """Draw how the TPM of each layer's kernels is distributed, highest entropy first.

    Each panel counts kernels in `bins` equal bins over [0, 1], the bins of the entropy written
    over it, and marks the layer's mean and the TPM of a random walk.

    Raises:
        NetError: if there is no layer to draw.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    layers = by_entropy(scores, bins)
    if not layers:
        raise NetError("no layer with kernels to draw", "a convolution or an inner product")
    drawn = layers[:MOST_PANELS]
    rows = math.ceil(len(drawn) / COLUMNS)
    columns = math.ceil(len(drawn) / rows)
    with mpl.rc_context({**style.RC, "axes.grid.axis": "y"}):
        figure = Figure(
            figsize=(style.WIDTH, HEAD_HEIGHT + PANEL_HEIGHT * rows), layout="constrained"
        )
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flat
        for axes, layer in zip(panels, drawn, strict=False):
            _draw_layer(axes, layer, bins, scores.random_walk)
        for axes in panels[len(drawn) - columns : len(drawn)]:
            axes.tick_params(labelbottom=True)
        for axes in panels[len(drawn) :]:
            axes.remove()
        first, last = scores.window
        cut = f", {len(drawn)} of {len(layers)} layers" if len(drawn) < len(layers) else ""
        figure.suptitle(
            f"TPM of kernels, iterations {first:,} to {last:,}, "
            f"{len(scores.iterations)} snapshots{cut}",
            x=0.01, ha="left", fontsize="medium",
        )  # fmt: skip
        walk = Line2D([], [], label=f"random walk, {scores.random_walk:.3f}", **WALK)
        mean = Line2D([], [], label="mean", **MEAN)
        figure.legend(
            handles=[mean, walk], loc="upper right", ncols=2, handlelength=1.8, borderaxespad=0
        )
        figure.supxlabel("TPM", fontsize="medium")
        figure.supylabel("number of kernels", fontsize="medium")
    return figure


def _draw_layer(axes: Axes, layer: LayerScores, bins: int, random_walk: float) -> None:
    from matplotlib.ticker import MaxNLocator

    defined = layer.kernels[~np.isnan(layer.kernels)]
    axes.hist(defined, bins, range=(0, 1), color=style.LIGHT, edgecolor="white")
    axes.axvline(random_walk, **WALK)
    if len(defined):
        axes.axvline(layer.tpm, **MEAN)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    title = axes.set_title(style.shortened(layer.name, TITLE_LENGTH), pad=15)
    notes = []
    if len(defined):
        notes += [f"entropy {layer.entropy(bins):.3f}", f"mean {layer.tpm:.3f}"]
    if layer.undefined:
        notes.append(f"{layer.undefined} undefined")
    note = axes.text(
        0, 1.04, ", ".join(notes), transform=axes.transAxes, fontsize="small", color=style.QUIET
    )
    # A long name may reach over its panel; the panels stay equal.
    title.set_in_layout(False)
    note.set_in_layout(False)
