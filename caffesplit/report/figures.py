"""Figures: `curves`, `tpm_histograms`, `tpm_windows` and `norms` draw them, `save` writes them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from caffesplit.errors import Location, OutputError
from caffesplit.formats.output import replacing
from caffesplit.report import style
from caffesplit.report.curves import curves
from caffesplit.report.histograms import tpm_histograms
from caffesplit.report.windows import norms, tpm_windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves", "norms", "save", "tpm_histograms", "tpm_windows"]

ENDINGS = (".png", ".svg", ".pdf")


def save(figure: Figure, path: Path | str, force: bool = False) -> None:
    """Write a figure in the format of the path's ending: png, svg or pdf.

    Raises:
        OutputError: if the ending is another one, or the path exists and `force` is false.
    """
    import matplotlib as mpl

    target = Path(path)
    if target.suffix.lower() not in ENDINGS:
        raise OutputError(
            f'the ending "{target.suffix}" names no picture format',
            ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}",
            "Give the picture another ending.",
            Location(str(target)),
        )
    with (
        replacing(target, force=force) as (staged,),
        mpl.rc_context(style.RC),
        quiet_fonts(),
    ):
        figure.savefig(staged)


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Keep matplotlib from warning of characters, of a layer's name for one, that its fonts lack:
    the picture shows a box for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
