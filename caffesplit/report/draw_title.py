"""The head of a drawing: the net's name, its cost, what changed, and what the colours mean."""

from __future__ import annotations

from collections.abc import Iterable

from caffesplit.net.findings import counted
from caffesplit.report.draw_costs import total
from caffesplit.report.draw_graphviz import Markup, markup
from caffesplit.report.draw_nodes import Marks
from caffesplit.report.draw_scene import Scene
from caffesplit.report.draw_style import (
    BODY_SIZE,
    FADED,
    LOOKS,
    ON_FILL,
    SMALL_SIZE,
    TITLE_SIZE,
    sized,
)
from caffesplit.report.draw_text import total_text
from caffesplit.report.style import shortened

LENGTH = 60
"""Characters of a net's name in the title."""


def net_name(scene: Scene) -> str:
    """What the net calls itself."""
    field = scene.net.tree.get("name")
    return (field.as_string() if field else "") or "net"


def title(shown: Scene, before: Scene | None, marks: Marks) -> Markup:
    """The label of the whole graph, in markup."""
    name = markup(shortened(net_name(shown), LENGTH))
    lines = [sized(f"<B>{name}</B>", TITLE_SIZE), sized(markup(_summary(shown)), BODY_SIZE)]
    if before is not None:
        change = marks.change
        counts = (
            f"{len(change.added)} added, {len(change.removed)} removed, "
            f"{len(change.changed)} changed; base: {_summary(before)}"
        )
        lines.append(sized(markup(counts), BODY_SIZE))
    rows = "".join(f'<TR><TD ALIGN="LEFT">{line}</TD></TR>' for line in lines)
    return Markup(
        '<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="2">'
        f'{rows}<TR><TD ALIGN="LEFT">{_legend(_used(shown, before, marks))}</TD></TR></TABLE>>'
    )


def _summary(scene: Scene) -> str:
    layers = len({index for box in scene.diagram.boxes for index in box})
    return f"{counted(layers, 'layer')}, {total_text(total(scene.states[0]))}"


def _used(shown: Scene, before: Scene | None, marks: Marks) -> set[str]:
    looks = {marks.look(shown, box[0]) for box in shown.diagram.boxes}
    return looks | ({"removed"} if before and marks.change.removed else set())


def _legend(used: Iterable[str]) -> str:
    cells = "".join(
        f'<TD BGCOLOR="{look.fill}" COLOR="{look.border}">'
        f"{sized(f' {look.meaning} ', SMALL_SIZE, ON_FILL)}</TD>"
        for name, look in LOOKS.items()
        if name in used
    )
    note = f'<TD BORDER="0">{sized("  edges: blobs, N×C×H×W", SMALL_SIZE, FADED)}</TD>'
    return (
        '<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="4" CELLPADDING="3">'
        f"<TR>{cells}{note}</TR></TABLE>"
    )
