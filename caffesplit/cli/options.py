"""Arguments and options that several verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from caffesplit.experiment import Experiment
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
        digits = max(len(first), len(last))
        if not (colon and first.isdecimal() and last.isdecimal() and digits < 19):
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


class OutputType(click.Path):
    """A path to write to. click would take an empty one for the working directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


experiment = click.argument("exp", type=click.Path(), metavar="EXP")

experiments = click.argument("exps", nargs=-1, required=True, type=click.Path(), metavar="EXP...")

root = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    help="Folder that the solver's relative paths start from [found by itself].",
)

force = click.option("--force", is_flag=True, help="Replace outputs that exist already.")


def engine_choice(function: F) -> F:
    """The options that choose an engine: `name`, `caffe` and `precision`."""
    for option in (
        click.option(
            "--precision",
            type=click.Choice(["float32", "tf32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Of PyTorch's matrix products; Caffe's own is float32.",
        ),
        click.option(
            "--caffe",
            metavar="PATH",
            help="The Caffe binary [$CAFFE, $CAFFE_ROOT, PATH, or what install_caffe.py brought].",
        ),
        click.option(
            "--engine",
            "name",
            type=click.Choice(["auto", "caffe", "torch"]),
            default="auto",
            show_default=True,
            help="What computes; auto is Caffe where there is one, else PyTorch.",
        ),
    ):
        function = option(function)
    return function


def engine(function: F) -> F:
    """The engine chosen, handed on as one argument."""

    @engine_choice
    @functools.wraps(function)
    def with_engine(
        *args: Any, name: str, caffe: str | None, precision: str, **kwargs: Any
    ) -> None:
        from caffesplit.engines.choice import choose

        function(*args, engine=choose(name, caffe, precision), **kwargs)

    return cast(F, with_engine)


gpu = click.option("--gpu", metavar="IDS", help="GPUs, as Caffe takes them: 0 or 0,1 or all.")

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


metric = click.option(
    "--metric",
    metavar="NAME",
    help='Test output [accuracy, or the first with "acc" in its name].',
)


def output(metavar: str, help: str | None = None) -> Callable[[F], F]:
    """The required `-o`, as `out`."""
    return click.option(
        "-o", "--output", "out", required=True, type=OutputType(), metavar=metavar, help=help
    )


def plot(help: str) -> Callable[[F], F]:
    """The `--plot FILE` of a verb that also prints, as `plot_path`."""
    return click.option(
        "--plot", "plot_path", metavar="FILE", type=OutputType(), help=f"{help} (png, svg or pdf)."
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
    """What `plan` and `split` decide by; None and empty where the user left it open."""

    windows: tuple[tuple[int, int], ...]
    layers: tuple[str, ...]
    top: int | None
    method: str | None
    partition: str | None
    seed: int | None

    def plan(self, experiment: Experiment, prefix: str | None) -> Plan:
        """Score the experiment's kernels in the window and decide."""
        from caffesplit.cli.progress import steps
        from caffesplit.study.decide import decide

        if len(self.windows) != 1:
            raise click.UsageError(
                f"{len(self.windows)} windows; give one --window A:B (or --plan FILE)."
            )
        if bool(self.layers) == (self.top is not None):
            both = "not both" if self.layers else "or --plan FILE"
            raise click.UsageError(
                f"Say what to split: --layer L (may be repeated), or --top K, {both}."
            )
        with steps("scoring") as progress:
            return decide(
                experiment,
                self.windows[0],
                self.layers if self.top is None else self.top,
                self.method or "residual",
                self.partition or "half",
                self.seed or 0,
                prefix,
                progress,
            )

    def refuse_beside_plan(self) -> None:
        """A plan file has decided already: nothing else may say otherwise."""
        given = [name for name, value in vars(self).items() if value not in ((), None)]
        if given:
            names = ", ".join(f"--{name.removesuffix('s')}" for name in given)
            raise click.UsageError(f"--plan has decided: leave out {names}.")


def decision(function: F) -> F:
    """The options of a `Decision`, handed on as one argument."""

    @click.option(
        "--window", "windows", type=WindowType(), multiple=True, help="Iterations to score in."
    )
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
        type=click.Choice(["residual", "extension", "skip"]),
        help="Form of the split.  [default: residual]",
    )
    @click.option(
        "--partition",
        metavar="P",
        help="half, mean, threshold:T, count:K, random[:K] or inverse:P.  [default: half]",
    )
    @click.option(
        "--seed",
        metavar="S",
        type=click.IntRange(min=0),
        help="Seed of noise and random partitions.  [default: 0]",
    )
    @functools.wraps(function)
    def with_decision(
        *args: Any,
        windows: tuple[tuple[int, int], ...],
        layers: tuple[str, ...],
        top: int | None,
        method: str | None,
        partition: str | None,
        seed: int | None,
        **kwargs: Any,
    ) -> Any:
        made = Decision(windows, layers, top, method, partition, seed)
        return function(*args, decision=made, **kwargs)

    return with_decision  # type: ignore[return-value]


def scored(plan: Plan) -> str:
    """What a plan was decided on, for people to read."""
    from caffesplit.report.scores import TWO_SNAPSHOTS

    first, *_, last = plan.iterations
    text = f"scored over {len(plan.iterations)} snapshots, {first} to {last}"
    if last != plan.window[1]:
        text += f", the last one in the window {plan.window[0]}:{plan.window[1]}"
    return f"{text}\n{TWO_SNAPSHOTS if len(plan.iterations) == 2 else ''}"


def chosen_layers(names: tuple[str, ...], experiment: Experiment) -> tuple[str, ...]:
    """The layers asked for, or all that have kernels.

    Raises:
        NetError: if one asked for has none, or no layer has any.
    """
    from caffesplit.errors import Location, NetError

    available = experiment.kernel_layers
    unknown = [name for name in names if name not in available]
    if unknown or not available:
        raise NetError(
            f"no layer {unknown[0]!r} with kernels" if unknown else "no layer with kernels",
            f"one of {', '.join(available)}" if available else "a net with convolutions",
            at=Location(str(experiment.net_path)),
        )
    return names or available


def check_outputs(
    paths: Iterable[str | Path | None], force: bool, experiment: Experiment, prefix: str | None
) -> None:
    """Refuse, before any work is done, outputs that exist, that are inputs, or that coincide."""
    from caffesplit.errors import Location, OutputError
    from caffesplit.formats.output import check_targets

    targets = [Path(path) for path in paths if path is not None and str(path) != "-"]
    if len({target.resolve() for target in targets}) < len(targets):
        raise OutputError(
            "two outputs of one name", "a name for each", at=Location(str(targets[0]))
        )
    inputs = list(experiment.paths)
    inputs += [snapshot.path for snapshot in experiment.snapshots(prefix)]
    check_targets(targets, force=force, inputs=inputs)


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
