"""Pictures of a layer's kernels: grids of small images, one scale of colours for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from caffesplit.errors import NetError, WeightsError
from caffesplit.net.findings import counted
from caffesplit.report import style
from caffesplit.report.kernels_layout import Layout, layout
from caffesplit.report.style import shortened
from caffesplit.split.plan import LayerPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Part:
    """Kernels that are shown together, by their numbers in the layer, with their TPM if known."""

    title: str
    numbers: tuple[int, ...]
    tpm: tuple[float | None, ...] = ()


def image(
    name: str,
    weights: Array,
    plan: LayerPlan | None = None,
    before: Array | None = None,
    labels: tuple[str, str] = ("before", "after"),
    most: int | None = None,
) -> Figure:
    """Draw the kernels of a layer.

    Kernels of three channels are shown as colours, those of one as single images, others as a row
    of images each; where a kernel is one value per channel (1×1, InnerProduct) the layer is shown
    as a matrix. More spatial axes than two are shown side by side, as further channels.

    Args:
        name: the layer's.
        weights: (N, C/G, *K).
        plan: its fast and slow kernels, to show them apart.
        before: weights of the same shape, to show beside them.
        labels: of `before` and `weights`.
        most: how many kernels of a part are shown; what is left out is said.

    Raises:
        NetError: if the weights are no kernels: of less than two axes, or empty.
        SplitError: if the plan is of another number of kernels.
        WeightsError: if `before` has another shape.
    """
    _check(name, weights, plan, before)
    both = [weights] if before is None else [before, weights]
    stacks = [_as_images(each) for each in both]
    drawn = layout(stacks[0].shape, len(stacks), most)
    parts = _parts(plan, len(weights))
    titles = [""] if before is None else list(labels)
    scale = max(_largest(each) for each in stacks) or 1.0
    return _figure(_title(name, weights, parts, drawn), stacks, titles, parts, drawn, scale)


def _check(name: str, weights: Array, plan: LayerPlan | None, before: Array | None) -> None:
    if weights.ndim < 2 or not weights.size:
        raise NetError(
            f"layer {name!r} has weights of shape {weights.shape}",
            "kernels: of a convolution or an inner product",
        )
    if plan is not None:
        plan.check_kernels(len(weights))
    if before is not None and before.shape != weights.shape:
        raise WeightsError(
            f"layer {name!r} of shape {before.shape} before and {weights.shape} after",
            "weights of one net",
        )


def _as_images(weights: Array) -> Array:
    """(N, C/G, *K) as (N, C, KH, KW): no axis is one of length 1, and further ones join C."""
    extents = (1, 1, *weights.shape[2:])[-2:]
    return weights.reshape(len(weights), -1, *extents)


def _parts(plan: LayerPlan | None, outputs: int) -> list[Part]:
    if plan is None:
        return [Part("", tuple(range(outputs)))]
    return [_part("fast", plan.fast, plan.tpm), _part("slow", plan.slow, plan.tpm)]


def _part(name: str, numbers: tuple[int, ...], tpm: Sequence[float | None]) -> Part:
    own = tuple(tpm[number] for number in numbers) if tpm else ()
    defined = [value for value in own if value is not None]
    mean = f", mean TPM {fmean(defined):.3f}" if defined else ""
    return Part(f"{name}: {counted(len(numbers), 'kernel')}{mean}", numbers, own)


def _largest(weights: Array) -> float:
    """The largest finite value's size; a layer may be large, so copies are made in need only."""
    ends = np.array([weights.min(), weights.max()])
    if not np.isfinite(ends).all():
        ends = weights[np.isfinite(weights)]
    return float(np.abs(ends).max(initial=0))


def _title(name: str, weights: Array, parts: Sequence[Part], drawn: Layout) -> str:
    kernels, channels = len(weights), weights.shape[1]
    shape = "×".join(map(str, weights.shape[1:]))
    cuts = []
    shown = sum(min(len(part.numbers), drawn.kernels) for part in parts)
    if shown < kernels:
        cuts.append(f"{kernels - shown} of {kernels} kernels")
    images = drawn.all_channels
    if drawn.channels < images:
        what = "channels" if images == channels else "images of each"
        cuts.append(f"{images - drawn.channels} of {images} {what}")
    cut = f"; left out: {' and '.join(cuts)}" if cuts else ""
    return f"{shortened(name, 60)}: {counted(kernels, 'kernel')} of {shape}{cut}"


def _figure(
    title: str,
    stacks: Sequence[Array],
    titles: Sequence[str],
    parts: Sequence[Part],
    drawn: Layout,
    scale: float,
) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    heights = [drawn.height(len(part.numbers)) for part in parts]
    headings = [[", ".join(filter(None, (part.title, each))) for each in titles] for part in parts]
    panel_head = PANEL_HEAD if any(map(any, headings)) else 0
    total = HEAD + sum(heights) + (panel_head + drawn.below) * len(parts) + FOOT
    with mpl.rc_context({**style.RC, "axes.grid": False}):
        figure = Figure(figsize=(style.WIDTH, total))
        figure.text(EDGE / style.WIDTH, 1 - 0.22 / total, title, va="center", fontsize="medium")
        top = total - HEAD
        for part, height, own in zip(parts, heights, headings, strict=True):
            top -= panel_head
            for column, (stack, heading) in enumerate(zip(stacks, own, strict=True)):
                left = EDGE + column * drawn.panel_width
                axes = figure.add_axes(
                    (
                        (left + drawn.left) / style.WIDTH,
                        (top - height) / total,
                        drawn.width(len(part.numbers)) / style.WIDTH,
                        height / total,
                    )
                )
                drawn.draw(axes, stack, part.numbers, part.tpm, scale)
                axes.set_title(heading, fontsize="small", color=style.QUIET, pad=3)
            top -= height + drawn.below
        _colour_bar(figure, drawn.colours, scale, total)
    return figure


def _colour_bar(figure: Figure, colours: str, scale: float, total: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    place = (EDGE / style.WIDTH, 0.36 / total, 2.6 / style.WIDTH, 0.1 / total)
    bar = figure.add_axes(place)
    figure.colorbar(
        ScalarMappable(Normalize(-scale, scale), colours), bar, orientation="horizontal"
    )
    bar.set_xticks([-scale, 0, scale], [f"{-scale:.3g}", "0", f"{scale:.3g}"])
    bar.tick_params(labelsize="x-small", length=2)
    note = "weight" if colours != "gray" else "weight, in each of red, green and blue"
    figure.text(
        (EDGE + 2.8) / style.WIDTH, 0.41 / total, note, va="center", fontsize="x-small",
        color=style.QUIET,
    )  # fmt: skip


EDGE, HEAD, PANEL_HEAD, FOOT = 0.25, 0.4, 0.35, 0.65
"""Inches: at the sides, over all panels, over each, and under them."""
