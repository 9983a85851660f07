"""Arguments and options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class WindowType(click.ParamType):
    """`A:B`, two iterations, inclusive, as a tuple."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, colon, last = str(value).partition(":")
        if not (colon and first.isdecimal() and last.isdecimal()):
            self.fail(f"{value!r} is not a window; write A:B in iterations, as in 40000:50000")
        if int(first) >= int(last):
            self.fail(f"{value!r} ends before it starts; write the smaller iteration first")
        return int(first), int(last)


experiment = click.argument("exp", type=click.Path(), metavar="EXP")

root = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    help="Folder that the solver's relative paths start from [found by itself].",
)

force = click.option("--force", is_flag=True, help="Replace outputs that exist already.")

snapshots = click.option(
    "--snapshots",
    metavar="PREFIX",
    help="Snapshot prefix, where it is not the solver's snapshot_prefix.",
)

json_output = click.option(
    "--json", "json_path", metavar="FILE", help="Also write the result as JSON (- is stdout)."
)


def windows(required: bool = True) -> Callable[[F], F]:
    """The repeatable `--window A:B`."""
    return click.option(
        "--window",
        "windows",
        type=WindowType(),
        multiple=True,
        required=required,
        help="Window of iterations, inclusive; may be repeated.",
    )
