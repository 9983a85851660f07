"""A drawing as a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from caffesplit.errors import Location, OutputError
from caffesplit.formats.output import replacing
from caffesplit.report.draw_graphviz import render
from caffesplit.report.draw_svg import svg

ENDINGS = (".svg", ".png", ".pdf", ".dot")


def check_ending(path: Path) -> None:
    """Raise OutputError unless the path's ending names a format that drawings are written in."""
    if path.suffix.lower() not in ENDINGS:
        raise OutputError(
            f'the ending "{path.suffix}" names no format of a drawing',
            ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}",
            "Give the drawing another ending.",
            Location(str(path)),
        )


def save(source: str, path: Path, force: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Write a Graphviz source as it is, or drawn, in the format of the path's ending.

    Raises:
        OutputError: if the ending is none of ENDINGS, if the path exists and `force` is false,
            if it is one of `inputs`, or if another format than dot is asked of a machine
            without Graphviz.
    """
    check_ending(path)
    kind = path.suffix.lower().lstrip(".")
    with replacing(path, force=force, inputs=inputs) as (staged,):
        if kind == "dot":
            staged.write_text(source, encoding="utf-8")
        elif kind == "svg":
            staged.write_text(svg(source), encoding="utf-8")
        else:
            staged.write_bytes(render(source, kind))
