"""Pictures for the page: drawings of the nets, and their kernels."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from caffesplit.errors import CaffesplitError
from caffesplit.report import draw
from caffesplit.report.page_kernels import kernel_pictures
from caffesplit.report.page_rows import Drawing, Section
from caffesplit.report.page_values import Subject

MAX_DRAWINGS = 3_500_000
"""Characters of all drawings of a page together; those after them are left out."""

AT_ONCE = 4
"""Drawings that Graphviz works on together."""


def with_pictures(sections: Sequence[Section], subjects: Sequence[Subject]) -> tuple[Section, ...]:
    """The sections with drawings of the nets, one that several have only once, and kernels."""
    drawings, kernels = _drawings(subjects), kernel_pictures(subjects)
    return tuple(
        replace(
            section, drawing=drawings[section.subject.name], kernels=kernels[section.subject.name]
        )
        for section in sections
    )


def _drawings(subjects: Sequence[Subject]) -> dict[str, Drawing]:
    first: dict[str, Subject] = {}
    for subject in subjects:
        if subject.net is not None:
            first.setdefault(str(subject.net.tree), subject)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = dict(zip(first, pool.map(_drawing, first.values()), strict=True))
    found: dict[str, Drawing] = {}
    room = MAX_DRAWINGS
    for subject in subjects:
        if subject.net is None:
            reason = subject.gaps.get("net", "it was not found")
            found[subject.name] = Drawing(caption=f"The net is not shown: {reason}.")
            continue
        text = str(subject.net.tree)
        if first[text] is not subject:
            found[subject.name] = Drawing(same_as=first[text])
            continue
        picture = drawn[text]
        room -= len(picture.svg)
        if room < 0:
            picture = Drawing(
                caption="Left out, the page would be too large: `caffesplit draw` draws it."
            )
        found[subject.name] = picture
    return found


def _drawing(subject: Subject) -> Drawing:
    assert subject.net is not None
    plan = subject.split.plan if subject.split else None
    try:
        picture = draw.svg(draw.dot(subject.net, shapes=subject.shapes, change=plan))
    except CaffesplitError as error:
        return Drawing(caption=f"The net is not drawn: {error.found}. {error.remedy}".strip())
    layers = subject.net.layers
    splits = [layer.name for layer in plan.layers] if plan else []
    alt = f"Drawing of the net of {subject.name}: {len(layers)} layers"
    alt += f", split: {', '.join(splits)}" if splits else ""
    return Drawing(_embedded(picture, alt), "Point at a box or an edge for its details.")


def _embedded(picture: str, label: str) -> str:
    """An SVG for a page with others: without the identities that each of them has, and named."""
    root = ET.fromstring(picture)
    for element in root.iter():
        element.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ET.tostring(root, encoding="unicode")
