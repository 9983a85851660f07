"""Training curves: loss and accuracy of several runs over the iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from caffesplit.formats.trainlog import TestRow, TrainRow
from caffesplit.report import style
from caffesplit.report.runs import Run, Score, output_name, scores, smaller_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 2.8
LABEL_HEIGHT = 0.18
"""Inches."""

LABEL_LENGTH = 28
"""Characters of a run's name beside a panel; the middle of a longer one is left out."""

LARGEST = float(np.finfo(np.float32).max)
"""Caffe computes in float32; a greater number is no value of Caffe's, and cannot be drawn."""

Array = NDArray[np.float64]


def curves(
    runs: Sequence[Run], avg: int = 1, metric: str | None = None, figure: Figure | None = None
) -> Figure:
    """Draw training and test loss, and below them a test output, over the iterations.

    The output is each run's own accuracy, or the one named `metric`, in whatever case.

    Points of the training loss are means of `avg` rows, as `smoothed` has them; a test is a mean
    already. A loss that spans more than a decade has a logarithmic axis. Of several test nets,
    the first is drawn. A given `figure` is drawn anew.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    series = [next(iter(scores(run, metric).values()), ()) for run in runs]
    heights = [PANEL_HEIGHT, max(PANEL_HEIGHT, LABEL_HEIGHT * (len(runs) + 3))]
    if not any(series):
        heights = heights[1:]
    with mpl.rc_context(style.RC):
        figure = figure or Figure()
        figure.clear()
        figure.set_size_inches(style.WIDTH, sum(heights))
        figure.set_layout_engine("constrained")
        panels = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        _draw_loss(panels[0], runs, avg)
        if any(series):
            names = {name for run in runs if (name := output_name(run, metric))}
            shared = names.pop() if len(names) == 1 else metric or "accuracy"
            _draw_scores(panels[-1], series, shared)
            ends = [scored[-1].value if scored else math.nan for scored in series]
        else:
            ends = [run.log.train[-1].loss if run.log.train else math.nan for run in runs]
        _label_ends(panels[-1], runs, _drawable(ends), LABEL_HEIGHT / heights[-1])
        panels[-1].set_xlabel("iteration")
        panels[-1].xaxis.set_major_formatter(lambda iteration, _: f"{iteration:,.0f}")
    return figure


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


def _draw_loss(axes: Axes, runs: Sequence[Run], avg: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator

    mean = f", mean of {avg // 2 * 2 + 1}" if avg > 1 else ""
    phases: dict[str, tuple[Any, int, list[Sequence[TrainRow | TestRow]]]] = {
        f"train{mean}": (style.FAINT, avg, [run.log.train for run in runs]),
        "test": (style.STRONG, 1, [_first_net(run.log.test) for run in runs]),
    }
    keys = []
    for label, (stroke, count, rows_of_runs) in phases.items():
        for index, rows in enumerate(rows_of_runs):
            iterations = [row.iteration for row in rows]
            losses = _drawable([row.loss for row in rows])
            axes.plot(iterations, smoothed(losses, count), **style.line_look(index), **stroke)
        if any(rows_of_runs):
            keys.append(Line2D([], [], color=style.QUIET, label=label, **stroke))
    axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.set_ylabel("loss")
    if 0 < 10 * axes.dataLim.ymin < axes.dataLim.ymax:
        axes.set_ylabel("loss, log scale")
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda loss, _: f"{loss:g}")


def _drawable(values: Sequence[float]) -> Array:
    """The values, nan in place of those that no axis can show."""
    array = np.array(values, dtype=np.float64)
    array[np.abs(array) > LARGEST] = np.nan
    return array


def _first_net(tests: Sequence[TestRow]) -> list[TestRow]:
    return [row for row in tests if row.net == tests[0].net]


def _draw_scores(axes: Axes, series: Sequence[Sequence[Score]], name: str) -> None:
    for index, scored in enumerate(series):
        look = style.line_look(index)
        iterations = [score.iteration for score in scored]
        values = _drawable([score.value for score in scored])
        axes.plot(iterations, values, **look, **style.STRONG)
        axes.plot(iterations[-1:], values[-1:], "o", color=look["color"], markersize=5)
    axes.set_ylabel(f"test {name}")
    _leave_out_starts(axes, series, smaller_is_better(name))


def _leave_out_starts(axes: Axes, series: Sequence[Sequence[Score]], smaller: bool) -> None:
    """Cut off what is worse than all that the runs give after their first third, and say so: they
    end close together, and one that starts from nothing would flatten all of them.
    """
    every = _drawable([score.value for scored in series for score in scored])
    later = _drawable([score.value for scored in series for score in scored[len(scored) // 3 :]])
    every, later = every[~np.isnan(every)], later[~np.isnan(later)]
    if not len(later):
        return
    low, high = (every.min(), later.max()) if smaller else (later.min(), every.max())
    if low == high:
        return
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    if every.min() < low - margin:
        axes.set_ylabel(f"{axes.get_ylabel()}, from {low - margin:.3g}")
    if every.max() > high + margin:
        axes.set_ylabel(f"{axes.get_ylabel()}, up to {high + margin:.3g}")


def _label_ends(axes: Axes, runs: Sequence[Run], values: Array, spacing: float) -> None:
    """Write each run's name and value beside the axes, at the value's height if there is room.

    `spacing` is the height of a label as a part of the panel's.
    """
    from matplotlib.lines import Line2D

    axes.autoscale_view()
    to_axes = axes.transScale + axes.transLimits
    heights = [
        to_axes.transform((0, value))[1] if math.isfinite(value) else 0.0 for value in values
    ]
    places = _spread(heights, spacing)
    numbers = _alike(values)
    for index, (run, number, place) in enumerate(zip(runs, numbers, places, strict=True)):
        look = style.line_look(index)
        label = f"{number}  {style.shortened(run.name, LABEL_LENGTH)}".strip()
        if run.log.diverged_at is not None:
            label += " (diverged)"
        key = Line2D((1.01, 1.04), (place, place), transform=axes.transAxes, clip_on=False, **look)
        axes.add_artist(key)
        axes.annotate(
            label, (1.04, place), (5, 0), "axes fraction", "offset points",
            va="center", color=look["color"], annotation_clip=False,
        )  # fmt: skip


def _alike(values: Array) -> list[str]:
    """The values in four digits, with as many decimals each; nothing for a nan."""
    texts = [f"{value:.4g}" for value in values if not math.isnan(value)]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    form = ".4g" if any("e" in text for text in texts) else f".{decimals}f"
    return ["" if math.isnan(value) else f"{value:{form}}" for value in values]


def _spread(heights: Sequence[float], spacing: float) -> list[float]:
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
