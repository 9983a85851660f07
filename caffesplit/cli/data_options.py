"""What the commands of `caffesplit data` share: how images are prepared, and progress."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from caffesplit.data.prepare import Preparation, Progress


class Finite(click.FloatRange):
    """A number in a range. click would take `nan` and `inf` for one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


gcn = click.option(
    "--gcn", is_flag=True, help="Contrast-normalise each image: mean 0, norm 55, as floats."
)

epsilon = click.option(
    "--epsilon",
    type=Finite(min=0, min_open=True),
    metavar="E",
    help="Added to the variances in whitening.  [default: 0.1]",
)

pad = click.option(
    "--pad",
    type=click.IntRange(0, 1000),
    default=0,
    metavar="N",
    help="Surround each image with N zeros on each side.",
)


def preparation(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a `Preparation`, handed on as one argument."""

    @gcn
    @click.option(
        "--zca",
        is_flag=True,
        help="Whiten the images by ZCA, fitted to the training set, as floats.",
    )
    @epsilon
    @pad
    @functools.wraps(function)
    def with_preparation(
        *args: Any, gcn: bool, zca: bool, epsilon: float | None, pad: int, **kwargs: Any
    ) -> None:
        if epsilon is not None and not zca:
            raise click.UsageError("--epsilon is --zca's: give both or neither.")
        function(*args, preparation=made(gcn, zca, epsilon, pad), **kwargs)

    return with_preparation


def made(gcn: bool, zca: bool, epsilon: float | None, pad: int) -> Preparation:
    """The preparation that the options tell."""
    from caffesplit.data.prepare import Preparation
    from caffesplit.data.whitening import EPSILON

    return Preparation(gcn, zca, EPSILON if epsilon is None else epsilon, pad)


@contextmanager
def bars() -> Iterator[Progress]:
    """A bar per kind of work, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing, done, total: None
        return
    from rich.progress import Progress as Display
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with Display(console=console, transient=True) as display:

        def show(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                tasks[doing] = display.add_task(doing, total=total or None)
            said = doing if total else f"{doing}: {done:,}"
            display.update(tasks[doing], completed=done, description=said)

        yield show
