"""The stages of `caffesplit run` as they are carried out: by what, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from caffesplit.cli.progress import training
from caffesplit.engines.choice import Engine
from caffesplit.engines.job import Job, Outcome
from caffesplit.errors import CaffesplitError
from caffesplit.experiment import Experiment
from caffesplit.study.cluster import on_cluster
from caffesplit.study.run import Result, Task, Workers, in_turn
from caffesplit.study.stage import Interrupted, Means
from caffesplit.study.study import Study


def means(
    study: Study,
    tasks: Sequence[Task],
    engine: Engine,
    engine_name: str,
    gpu: str | None,
    force: bool,
    shown: bool,
) -> Means:
    """What the stages of a study are carried out with; `shown` says whether trainings are."""
    titles = {task.out: f"{n}/{len(tasks)} {task.name}" for n, task in enumerate(tasks, start=1)}
    train = _Train(engine, titles if shown else {})
    return Means(train, _Initialise(engine_name), study.resume, gpu, force)


def workers(
    means: Means, cluster: str | None, cpus: float, gpus: float
) -> AbstractContextManager[Workers]:
    """What carries the stages out: this process, or a cluster."""
    return (
        nullcontext(in_turn(means)) if cluster is None else on_cluster(cluster, means, cpus, gpus)
    )


def carry_out(tasks: Sequence[Task], work: Workers) -> dict[str, str]:
    """Carry out what is left to do; return the names of those that came to nothing, and why.

    Raises:
        click.Abort: if the user stops it.
    """
    failed: dict[str, str] = {}
    try:
        for done, (task, result) in enumerate(work(tasks), start=1):
            if (reason := _reason(result)) is not None:
                failed[task.name] = reason
                click.echo(f"{done}/{len(tasks)} {task.name}: {result or reason}", err=True)
            else:
                click.echo(f"{done}/{len(tasks)} {task.name}: {task.stage.what}")
    except Interrupted:
        click.echo("stopped; the same command goes on here", err=True)
        raise click.Abort from None
    return failed


def _reason(result: Result) -> str | None:
    """Why a stage came to nothing, in a line; None if it did not."""
    if result is None:
        return "left out, since it needs one that failed"
    return result.found if isinstance(result, CaffesplitError) else None


@dataclass(frozen=True)
class _Train:
    """Trains with an engine, and shows it."""

    engine: Engine
    titles: Mapping[Path, str]
    """What is shown of the training in each folder; nothing of others."""

    def __call__(self, experiment: Experiment, job: Job) -> Outcome:
        title = self.titles.get(experiment.folder)
        if title is None:
            return self.engine.train(job, lambda record: None)
        engine = self.engine.title(job.gpu, job.device_id)
        with training(title, experiment.solver.max_iter, engine) as observe:
            return self.engine.train(job, observe)


@dataclass(frozen=True)
class _Initialise:
    """Writes LSUV weights for an experiment."""

    engine: str

    def __call__(self, experiment: Experiment, out: Path) -> None:
        from caffesplit.engines.forward import find
        from caffesplit.study.lsuv import Settings
        from caffesplit.study.lsuv_experiment import write_lsuv

        seed = experiment.solver.random_seed
        write_lsuv(experiment, out, find(self.engine), Settings(seed=seed), seed=seed, force=True)
