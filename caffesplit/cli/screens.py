"""Where `plot` shows its picture when it is not told a file: whatever the user looks at."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import click

from caffesplit.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paint: TypeAlias = "Callable[[Figure | None], Figure]"
"""Draws the picture into a figure, or into a new one for None."""

INTERVAL = 2.0
"""Seconds between two looks at logs that may grow."""


class Screen(Protocol):
    """Shows a picture, and shows it anew when it has changed."""

    def draw(self, paint: Paint) -> None:
        """Show what `paint` draws."""

    def wait(self) -> bool:
        """Let some time pass; say whether there is still someone to draw for."""

    def hold(self) -> None:
        """Leave the last picture to the user."""


def find_screen(log: Path) -> Screen:
    """A notebook's cell, a window, or a picture beside `log` where there is no display."""
    import matplotlib.pyplot as plt

    if "IPython" in sys.modules and "inline" in plt.get_backend():
        return Cell()
    try:
        figure = plt.figure()
    except ImportError:
        return Picture(log)
    if figure.canvas.required_interactive_framework is None:
        plt.close(figure)
        return Picture(log)
    return Window(figure)


@dataclass(frozen=True)
class Window:
    """A window of whatever toolkit matplotlib has found."""

    figure: Figure

    def draw(self, paint: Paint) -> None:
        paint(self.figure)
        self.figure.canvas.draw_idle()

    def wait(self) -> bool:
        import matplotlib.pyplot as plt

        plt.pause(INTERVAL)
        return plt.fignum_exists(self.figure.number)

    def hold(self) -> None:
        import matplotlib.pyplot as plt

        plt.show()


@dataclass(frozen=True)
class Cell:
    """The output of a notebook's cell."""

    def draw(self, paint: Paint) -> None:
        import matplotlib.pyplot as plt
        from IPython.display import clear_output  # type: ignore[import-not-found]

        clear_output(wait=True)
        paint(plt.figure())
        plt.show()

    def wait(self) -> bool:
        time.sleep(INTERVAL)
        return True

    def hold(self) -> None:
        """The cell shows it already."""


@dataclass(frozen=True)
class Picture:
    """LOG.png beside the log, for a machine without a display."""

    log: Path

    def draw(self, paint: Paint) -> None:
        path = self.log.with_name(f"{self.log.name}.png")
        figures.save(paint(None), path, force=True)
        click.echo(path)

    def wait(self) -> bool:
        time.sleep(INTERVAL)
        return True

    def hold(self) -> None:
        """The picture is a file."""
