"""Training curves of several runs: loss, a test output and the learning rate, a panel for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffesplit.report import style
from caffesplit.report.labels import Label, label_ends, panel_height
from caffesplit.report.panels import (
    draw,
    legend_above,
    make_logarithmic,
    mark_empty,
    write_iterations,
)
from caffesplit.report.points import Points
from caffesplit.report.runs import Run, smaller_is_better
from caffesplit.report.series import Line, Scale, Series, horizontal, lines, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 2.8
RATE_HEIGHT = 1.3
"""Inches."""


def curves(
    runs: Sequence[Run],
    avg: int = 1,
    metric: str | None = None,
    scale: Scale = "iteration",
    epochs: Sequence[float] = (),
    log: bool | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw the losses of training and tests, a test output and the learning rate, as far as the
    logs have them, over iterations, training time or epochs. A learning rate that no run changes
    has no panel: it stands in the title or, if the runs have different ones, in the labels.

    The output is each test net's own accuracy, or the one named `metric`, in whatever case;
    test nets and the elements of a vector-valued output have a curve each. Points of the
    training loss are means of `avg` rows, as `points.smoothed` has them; a test is a mean
    already. `epochs` are the iterations of each run's epoch, for that scale. Whether the loss
    has a logarithmic axis is up to `log`; None gives one to a loss that spans more than a
    decade; without a loss above zero it is never one. A given `figure` is drawn anew.

    Raises:
        LogError: if a log has no time stamps for the scale "time".
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    axis = horizontal(runs, scale, epochs)
    drawn = lines(runs, metric)
    found = series(runs, drawn, axis, avg)
    labelled = panel_height(PANEL_HEIGHT, len(drawn))
    heights = [PANEL_HEIGHT, labelled] if found.outputs else [labelled]
    constant = _constants(found.rates)
    changing = found.rates if constant is None else {}
    heights += [RATE_HEIGHT] if changing else []
    with mpl.rc_context(style.RC):
        figure = figure or Figure()
        figure.clear()
        figure.set_size_inches(style.WIDTH, sum(heights))
        figure.set_layout_engine("constrained")
        panels = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        _draw_losses(panels[0], found, avg, log)
        if found.outputs:
            _draw_outputs(panels[1], found.outputs, _shared_name(drawn, metric))
        if changing:
            _draw_rates(panels[-1], changing)
        notes = {}
        if constant and len(set(constant.values())) == 1:
            panels[0].set_title(f"Loss at learning rate {max(constant.values()):g}")
        elif constant:
            notes = {drawn[index].run: f", lr {rate:g}" for index, rate in constant.items()}
        ends = found.outputs or {**found.training, **found.tests}
        labels = [
            Label(
                index,
                ends[index].last if index in ends else math.nan,
                line.label,
                _note(runs[line.run]) + notes.get(line.run, ""),
            )
            for index, line in enumerate(drawn)
        ]
        label_ends(panels[1 if found.outputs else 0], labels, labelled)
        figure.align_ylabels(panels)
        if scale == "iteration":
            write_iterations(panels[-1])
        else:
            panels[-1].set_xlabel(axis.label)
        mark_empty(panels)
    return figure


def _shared_name(drawn: Sequence[Line], metric: str | None) -> str:
    """The output's name, if all lines have one of the same."""
    names = {line.output.partition("#")[0] for line in drawn if line.output}
    return names.pop() if len(names) == 1 else metric or "accuracy"


def _constants(rates: Mapping[int, Points]) -> dict[int, float] | None:
    """Each curve's only value; None where one has several."""
    values = {index: np.unique(points.y[~np.isnan(points.y)]) for index, points in rates.items()}
    if any(len(each) > 1 for each in values.values()):
        return None
    return {index: float(each[0]) for index, each in values.items()}


def _note(run: Run) -> str:
    """What the legend says of a run's points that are left out, or are not worth looking at."""
    if run.log.diverged_at is not None:
        return f", diverged at {run.log.diverged_at:,}"
    lost = sum(not math.isfinite(row.loss) for row in run.log.train)
    return f", {lost} losses not finite" if lost else ""


def _draw_losses(axes: Axes, found: Series, avg: int, log: bool | None) -> None:
    """Draw the losses of training and, over them, of tests."""
    from matplotlib.lines import Line2D

    mean = f", mean of {avg // 2 * 2 + 1}" if avg > 1 else ""
    strokes = {
        f"training{mean}": (style.FAINT, found.training),
        "tests": (style.STRONG, found.tests),
    }
    keys = []
    for name, (stroke, curves) in strokes.items():
        for index, points in curves.items():
            draw(axes, points, style.line_look(index), stroke)
        if curves:
            keys.append(Line2D([], [], color=style.QUIET, label=name, **stroke))
    legend_above(axes, keys)
    axes.set_title("Loss")
    axes.set_ylabel("loss")
    lowest, highest = axes.dataLim.intervaly
    if highest > 0 and (0 < 10 * lowest < highest if log is None else log):
        axes.set_ylabel("loss, log scale")
        make_logarithmic(axes)


def _draw_outputs(axes: Axes, outputs: Mapping[int, Points], name: str) -> None:
    for index, points in outputs.items():
        look = style.line_look(index)
        draw(axes, points, look, style.STRONG)
        axes.plot(points.x[-1:], points.y[-1:], "o", color=look["color"], markersize=5)
    axes.set_ylabel(name)
    cut = ""
    if len(outputs) > 1:
        cut = _leave_out_starts(axes, list(outputs.values()), smaller_is_better(name))
    axes.set_title(f"{name[:1].upper()}{name[1:]} in tests{cut}")


def _leave_out_starts(axes: Axes, outputs: Sequence[Points], smaller: bool) -> str:
    """Cut off what is worse than all that the runs give after their first third, and say so: they
    end close together, and one that starts from nothing would flatten all of them.
    """
    every = np.concatenate([points.y for points in outputs])
    later = np.concatenate([points.y[len(points.y) // 3 :] for points in outputs])
    every, later = every[~np.isnan(every)], later[~np.isnan(later)]
    if not len(later):
        return ""
    low, high = (every.min(), later.max()) if smaller else (later.min(), every.max())
    if low == high:
        return ""
    margin = 0.05 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    if every.min() < low - margin:
        return f", drawn from {low - margin:.3g} up"
    return f", drawn up to {high + margin:.3g}" if every.max() > high + margin else ""


def _draw_rates(axes: Axes, rates: Mapping[int, Points]) -> None:
    """Draw each learning rate once: in gray, if several runs have had the same."""
    sharing: dict[bytes, list[int]] = {}
    for index, points in rates.items():
        sharing.setdefault(points.x.tobytes() + points.y.tobytes(), []).append(index)
    for index, *others in sharing.values():
        look = {"color": style.QUIET} if others else style.line_look(index)
        draw(axes, rates[index], look | {"drawstyle": "steps-post"}, style.STRONG)
    title = "Learning rate"
    if len(sharing) < len(rates):
        title += ", the same in all runs" if len(sharing) == 1 else " (gray: of several runs)"
    axes.set_title(title)
    axes.set_ylabel("lr")
    lowest, highest = axes.dataLim.intervaly
    if 0 < 5 * lowest < highest:  # The usual step is to a tenth.
        make_logarithmic(axes)
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
