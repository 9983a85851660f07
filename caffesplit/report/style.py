"""The one look of all figures: colours that colour-blind readers tell apart, little ink."""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008) without yellow, faint on white."""

DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (6, 1.5, 1, 1.5, 1, 1.5)),
)
"""Line styles, one for each time the colours are used up."""

LIGHT = "#7FB8D8"
"""The first of them, where lines are drawn over it."""

QUIET = "#777777"
"""For what explains the data: reference lines and notes."""

PALE = "#C4C4C4"
"""For lines that are too many to be told apart."""

TEXT = "#222222"
"""For words: the colours of lines are too light to read."""

WIDTH = 9.0
"""Inches; fits a notebook's cell without scaling."""

RC: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    # A net's name may have a $ in it.
    "text.parse_math": False,
    "legend.frameon": False,
}
"""matplotlib settings, in force while a figure is drawn and saved."""


def line_look(index: int) -> dict[str, Any]:
    """Colour and dashes of the run at `index`."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


STRONG: dict[str, Any] = {"linewidth": 1.8}
"""What a figure is about."""

FAINT: dict[str, Any] = {"linewidth": 1.0, "alpha": 0.5}
"""What stands behind it."""

REFERENCE: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 2))}
"""What data is compared with."""


def shortened(name: str, length: int) -> str:
    """The name, or its two ends where it has more than `length` characters."""
    if len(name) <= length:
        return name
    return f"{name[: length // 2]}…{name[1 - length // 2 :]}"
