"""`caffesplit test`: what a net with given weights puts out on its test data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.engines.choice import Engine
    from caffesplit.engines.testing import Test
    from caffesplit.experiment import Experiment

ITERATIONS = 50
"""Batches for a net without a solver, as `caffe test` has it."""

STARTS = ("folded.caffemodel", "init.caffemodel", "init.caffemodel.h5")
"""Weights of an experiment that has no snapshots yet."""


@click.command(short_help="Test a net with given weights on its test data.")
@click.argument("target", metavar="EXP|NET", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    metavar="ITER|FILE",
    help="Test this snapshot or file [the last snapshot, else folded or init.caffemodel].",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Batches [the solver's test_iter; {ITERATIONS} for a NET].",
)
@options.engine
@options.gpu
@options.json_output
@options.snapshots
@options.root
@options.force
def command(
    target: Path,
    weights: str | None,
    iterations: int | None,
    engine: Engine,
    gpu: str | None,
    json_path: str | None,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Run EXP's test nets, or NET in TEST, with given weights, and print the mean outputs.

    This is `caffe test`, with the batches, the states and the folder that the solver asks for.
    """
    from caffesplit.cli.progress import steps
    from caffesplit.engines import start, testing
    from caffesplit.experiment import load
    from caffesplit.study.files import is_net

    if is_net(target):
        if weights is None:
            raise click.UsageError(f"{target} is a net: give its weights, --weights FILE.")
        folder = Path(root or ".").resolve()
        count = iterations or ITERATIONS
        tests = [testing.Test(target.resolve(), Path(weights).resolve(), folder, count, gpu=gpu)]
    else:
        experiment = load(target, root)
        path = _weights(experiment, weights, snapshots).resolve()
        tests = _tests(experiment, path, iterations, gpu)
    unfilled = dict.fromkeys(name for test in tests for name in testing.check(test))
    if unfilled:
        click.echo(start.unfilled_line(tuple(unfilled)), err=True)
    results: list[dict[str, Any]] = []
    for test in tests:
        with steps(f"testing {test.net.name}") as progress:
            outputs = engine.test(test, progress)
        if len(tests) > 1:
            click.echo(f"test net #{len(results)}: {test.net}")
        click.echo(f"total loss = {outputs.loss:g}")
        for name, value in outputs.values:
            click.echo(f"{name} = {value:g}")
        results.append(
            {
                "net": str(test.net),
                "weights": str(test.weights),
                "iterations": test.iterations,
                "loss": outputs.loss,
                "outputs": [list(each) for each in outputs.values],
            }
        )
    if json_path is not None:
        options.write_json(results, json_path, force)


def _weights(experiment: Experiment, choice: str | None, prefix: str | None) -> Path:
    """The weights chosen; by default the newest there are."""
    from caffesplit.errors import SnapshotError

    if choice is not None:
        return experiment.weights_path(choice, prefix)
    try:
        return experiment.snapshots(prefix)[-1].path
    except SnapshotError:
        for name in STARTS:
            if prefix is None and (experiment.folder / name).is_file():
                return experiment.folder / name
        raise


def _tests(
    experiment: Experiment, weights: Path, iterations: int | None, gpu: str | None
) -> list[Test]:
    """A test for each net that the solver tests, in the state and for the batches it says."""
    from caffesplit.engines.testing import Test
    from caffesplit.errors import Location, NetError

    experiment.check_tests()
    paths = {id(each.net): each.path for each in experiment.nets}
    tests = []
    for number, (net, state) in enumerate(experiment.uses[1:]):
        path = paths[id(net)]
        if path is None:
            raise NetError(
                "a net inside the solver",
                "one in a file of its own, which `caffe test` takes",
                "Write it into a file and name that in `net`.",
                Location(str(experiment.solver_path)),
            )
        count = iterations or experiment.solver.test_iter[number]
        if count < 1:
            raise NetError(
                f"test_iter {count}",
                "1 or more batches",
                "Correct it, or say how many: --iterations N.",
                Location(str(experiment.solver_path)),
            )
        root = experiment.root.resolve()
        tests.append(Test(path.resolve(), weights, root, count, state.level, state.stages, gpu))
    if not tests:
        raise NetError(
            "a solver that tests no net",
            "test_iter, for how many batches to test",
            "Add test_iter and test_interval, or give the net itself.",
            Location(str(experiment.solver_path)),
        )
    return tests
