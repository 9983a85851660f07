"""The look of a drawing: colours that colour-blind readers tell apart, and a sign beside each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from caffesplit.report.draw_graphviz import Markup

TEXT = "#1c1c1c"
FADED = "#5a5a5a"
"""On the card, and in boxes. On a dark page those on the card turn light."""
ON_FILL = "#101010"
"""In the legend, whose fills are light on dark pages as well."""
LINE = "#6B6B6B"

FONT = "Helvetica,Arial,sans-serif"
TITLE_SIZE, NAME_SIZE, BODY_SIZE, SMALL_SIZE = "15", "11", "10", "9"
"""Points."""


@dataclass(frozen=True)
class Look:
    """Fill and border of a box, its shape, and what the legend says of it."""

    fill: str
    border: str
    meaning: str
    shape: str = "box"
    margin: str = "0.12,0.06"
    """Inches around the text."""
    style: str = "rounded,filled"
    width: str = "1"


LOOKS = {
    "data": Look("#E4E4E4", "#5F5F5F", "data", "cylinder", "0.12,0.11", "filled"),
    "loss": Look("#FFF0C7", "#8A6A00", "loss, accuracy", "octagon", "0.02,0.02", "filled"),
    "learned": Look("#FFFFFF", "#33383F", "learned", width="1.4"),
    "plain": Look("#F3F4F6", "#9AA0A8", "nothing to learn"),
    "fast": Look("#FCE0CC", "#B84A00", "fast kernels", width="1.4"),
    "slow": Look("#D3E6F5", "#0060A0", "slow kernels", width="1.4"),
    "added": Look("#CFEDE2", "#00775A", "added", width="1.4"),
    "joined": Look("#F3DDEB", "#9C4A7C", "joined"),
    "changed": Look("#FFF9C4", "#7A6A00", "~ changed", width="2.6"),
    "removed": Look("#FFFFFF", "#7A7A7A", "− removed", style="rounded,filled,dashed"),
}
"""Okabe and Ito's hues (jfly.uni-koeln.de/color, 2008): light fills, dark borders."""

NEW_WIDTH = "2.6"
"""Of the border of a layer that the base has not."""

GRAPH = {
    "rankdir": "TB",
    "nodesep": "0.3",
    "ranksep": "0.32",
    "bgcolor": "white",
    "pad": "0.25",
    "labelloc": "t",
    "labeljust": "l",
    "fontname": FONT,
    "fontsize": BODY_SIZE,
    "fontcolor": TEXT,
}
NODE = {
    "fontname": FONT,
    "fontsize": BODY_SIZE,
    "fontcolor": TEXT,
    "height": "0.3",
}
EDGE = {
    "fontname": FONT,
    "fontsize": SMALL_SIZE,
    "fontcolor": FADED,
    "color": LINE,
    "arrowsize": "0.6",
}
CLUSTER = {
    "labeljust": "l",
    "style": "rounded,filled",
    "fillcolor": "#80808014",
    "color": "#9AA0A8",
}
MAIN_PATH = {"weight": "100"}
"""Of edges that are to be short and straight."""


def sized(text: str, size: str, colour: str = "") -> str:
    """Markup in a size, and perhaps in a colour."""
    shade = f' COLOR="{colour}"' if colour else ""
    return f'<FONT POINT-SIZE="{size}"{shade}>{text}</FONT>'


def table(*parts: Iterable[str]) -> Markup:
    """A label of rows, with a rule between its parts."""
    first = '<HR/><TR><TD CELLPADDING="5">'
    cells = first.join("</TD></TR><TR><TD>".join(part) + "</TD></TR>" for part in parts)
    return Markup(f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="2"><TR><TD>{cells}</TABLE>>')
