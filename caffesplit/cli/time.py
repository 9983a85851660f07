"""`caffesplit time`: how long a net's layers take."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.engines.choice import Engine
    from caffesplit.engines.timing import Timing


@click.command(short_help="How long a net's layers take, forward and backward.")
@click.argument("target", metavar="EXP|NET", type=click.Path(path_type=Path))
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Batches.",
)
@click.option(
    "--phase",
    type=click.Choice(["TRAIN", "TEST"]),
    default="TRAIN",
    show_default=True,
    help="The phase whose layers are timed.",
)
@options.engine
@options.gpu
@options.json_output
@options.root
@options.force
def command(
    target: Path,
    iterations: int,
    phase: str,
    engine: Engine,
    gpu: str | None,
    json_path: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Time the layers of NET, or of the net that EXP trains, as `caffe time` does."""
    from caffesplit.cli.progress import steps
    from caffesplit.engines import timing

    asked = _asked(target, iterations, phase, gpu, root)
    timing.check(asked)
    with steps(f"timing {asked.net.name}") as progress:
        times = engine.time(asked, progress)
    if json_path is not None:
        options.write_json(asdict(times), json_path, force)
    if json_path != "-":
        click.echo(str(times))


def _asked(target: Path, iterations: int, phase: str, gpu: str | None, root: str | None) -> Timing:
    from caffesplit.engines.timing import Timing
    from caffesplit.errors import Location, NetError
    from caffesplit.experiment import load
    from caffesplit.study.files import is_net

    if is_net(target):
        folder = Path(root or ".").resolve()
        return Timing(target.resolve(), folder, iterations, phase, gpu=gpu)
    experiment = load(target, root)
    if experiment.nets[0].path is None:
        raise NetError(
            "a net inside the solver",
            "one in a file of its own, which `caffe time` takes",
            "Write it into a file and name that in `net`.",
            Location(str(experiment.solver_path)),
        )
    _, state = experiment.uses[0]
    path, folder = experiment.nets[0].path.resolve(), experiment.root.resolve()
    return Timing(path, folder, iterations, phase, state.level, state.stages, gpu)
