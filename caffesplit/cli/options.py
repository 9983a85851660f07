"""Arguments and options that several verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from caffesplit.experiment import Experiment
    from caffesplit.metric.history import History
    from caffesplit.net.graph import Net
    from caffesplit.split.plan import Plan

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


class PairType(click.ParamType):
    """`X,Y`, two numbers, as a tuple."""

    name = "X,Y"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            first, second = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a pair of numbers; write it as in -0.2,2")
        return first, second


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

layers = click.option(
    "--layer", "layers", multiple=True, metavar="L", help="Only this layer; may be repeated."
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


@dataclass(frozen=True)
class Decision:
    """What `plan` and `split` decide by: the window, the layers, the method, the partition."""

    window: tuple[int, int] | None
    layers: tuple[str, ...]
    top: int | None
    method: str
    partition: str
    seed: int

    def plan(self, experiment: Experiment, prefix: str | None) -> Plan:
        """Score the experiment's kernels in the window and decide."""
        from caffesplit.study.decide import decide

        if self.window is None:
            raise click.UsageError("Missing option '--window A:B' (or '--plan FILE').")
        if bool(self.layers) == (self.top is not None):
            raise click.UsageError("Say what to split: --layer L (may be repeated), or --top K.")
        return decide(
            experiment,
            self.window,
            self.top if self.top is not None else self.layers,
            self.method,
            self.partition,
            self.seed,
            prefix,
        )

    def refuse_beside_plan(self) -> None:
        """A plan file has decided already: nothing else may say otherwise."""
        if self.window or self.layers or self.top is not None:
            raise click.UsageError("--plan has decided: leave out --window, --layer and --top.")


def decision(function: F) -> F:
    """The options of a `Decision`, handed on as one argument."""

    @click.option("--window", type=WindowType(), help="Window of iterations to score in.")
    @click.option(
        "--layer", "layers", multiple=True, metavar="L", help="Split this layer; may be repeated."
    )
    @click.option(
        "--top",
        type=click.IntRange(min=1),
        metavar="K",
        help="Split the K layers of highest entropy.",
    )
    @click.option(
        "--method",
        default="residual",
        show_default=True,
        type=click.Choice(["residual", "extension"]),
        help="Form of the split.",
    )
    @click.option(
        "--partition",
        default="half",
        show_default=True,
        metavar="P",
        help="half, mean, threshold:T, count:K, random[:K] or inverse:P.",
    )
    @click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(min=0),
        help="Seed of noise and random partitions.",
    )
    @functools.wraps(function)
    def with_decision(
        *args: Any,
        window: tuple[int, int] | None,
        layers: tuple[str, ...],
        top: int | None,
        method: str,
        partition: str,
        seed: int,
        **kwargs: Any,
    ) -> Any:
        made = Decision(window, layers, top, method, partition, seed)
        return function(*args, decision=made, **kwargs)

    return with_decision  # type: ignore[return-value]


def chosen_layers(
    names: tuple[str, ...], experiment: Experiment, history: History
) -> tuple[str, ...]:
    """The layers asked for, or all that have kernels in the snapshots.

    Raises:
        NetError: if one asked for has none.
    """
    from caffesplit.errors import Location, NetError

    weights = history.load(history.iterations[-1])
    available = tuple(name for name in experiment.kernel_layers if name in weights)
    for name in names:
        if name not in available:
            raise NetError(
                f"no layer {name!r} with kernels",
                f"one of {', '.join(available) or 'none: the snapshots hold no layer of the net'}",
                at=Location(str(experiment.net_path)),
            )
    return names or available


def write_json(value: Any, path: str, force: bool) -> None:
    """Write a value as JSON; `-` is stdout."""
    import json

    write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", path, force)


def write_text(text: str, path: str, force: bool) -> None:
    """Write a text into a file; `-` is stdout."""
    if path == "-":
        click.echo(text, nl=False)
        return
    from caffesplit.formats.output import replacing

    with replacing(path, force=force) as (staged,):
        staged.write_text(text, encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """The plan in a plan.json or split.json."""
    from caffesplit.split.plan_json import parse_plan

    return parse_plan(path.read_text(encoding="utf-8", errors="replace"), str(path))


def load_net(target: Path, root: str | None) -> Net:
    """The net of an experiment, or the net that a prototxt holds itself."""
    from caffesplit.experiment import load
    from caffesplit.formats import prototxt
    from caffesplit.net import graph

    if target.is_file():
        tree = prototxt.load(target)
        if tree.get("layer") or tree.get("layers"):
            return graph.build(tree, str(target))
    return load(target, root).net
