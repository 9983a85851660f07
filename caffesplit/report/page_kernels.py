"""Pictures of kernels for the page: what a split took apart, or what a net sees first."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from caffesplit.errors import CaffesplitError
from caffesplit.metric.history import Array
from caffesplit.report import kernels
from caffesplit.report.figures import quiet_fonts
from caffesplit.report.page_rows import Picture
from caffesplit.report.page_values import Subject
from caffesplit.split.plan import LayerPlan

MOST = 24
"""Kernels that are shown of a layer, or of its fast and its slow ones each."""

LAYERS = 2
"""Of a split that are shown."""

DPI = 100

MAX_BYTES = 2_500_000
"""Of all pictures of a page together; those after them are left out."""


def kernel_pictures(subjects: Sequence[Subject]) -> dict[str, tuple[Picture, ...]]:
    """Pictures of every experiment's kernels, by its name.

    Of a split: the layers that it took apart, as they came out of the base's training. Of another
    net: its first layer.
    """
    by_name = {subject.name: subject for subject in subjects}
    found: dict[str, tuple[Picture, ...]] = {}
    room = MAX_BYTES
    for subject in subjects:
        pictures = tuple(_pictures(subject, by_name)) if room > 0 else ()
        room -= sum(len(picture.uri) for picture in pictures)
        found[subject.name] = pictures
    return found


def _pictures(subject: Subject, by_name: Mapping[str, Subject]) -> list[Picture]:
    split = subject.split
    if split and split.plan.layers:
        base = by_name.get(split.base)
        shown = [plan for plan in split.plan.layers if base and plan.name in base.kernels][:LAYERS]
        return [
            _picture(plan.name, base.kernels[plan.name], base.name, plan) for plan in shown if base
        ]
    first = next(iter(subject.kernels), None)
    if first is None:
        return []
    return [_picture(first, subject.kernels[first], subject.name, None)]


def _picture(name: str, weights: Array, net: str, plan: LayerPlan | None) -> Picture:
    parts = f", {len(plan.fast)} fast and {len(plan.slow)} slow ones apart" if plan else ""
    alt = f"Kernels of {name} in {net}: {len(weights)} of {'×'.join(map(str, weights.shape[1:]))}"
    try:
        figure = kernels.image(name, weights, plan, most=MOST)
    except CaffesplitError as error:
        return Picture(caption=f"The kernels of {name} are not shown: {error.found}.")
    content = io.BytesIO()
    with quiet_fonts():
        figure.savefig(content, format="png", dpi=DPI)
    uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return Picture(uri, alt + parts, f"{name} of {net}{parts}, in the last snapshot.")
