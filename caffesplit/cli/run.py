"""`caffesplit run`: chains of splits with their controls, as a study file tells."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options
from caffesplit.cli.data_options import bars

if TYPE_CHECKING:
    from caffesplit.engines.job import Job, Outcome
    from caffesplit.experiment import Experiment
    from caffesplit.study.run import Layout, Result, Task
    from caffesplit.study.study import Study


@click.command(short_help="Chains of splits with controls, over several seeds.")
@click.argument("study", required=False, metavar="[STUDY]")
@click.option(
    "-o",
    "--output",
    "out",
    type=options.OutputType(),
    metavar="OUT",
    help="Folder for all its experiments [exp/STUDY].",
)
@click.option("--list", "listed", is_flag=True, help="Print which studies come with caffesplit.")
@click.option("--show", is_flag=True, help="Print the study file, to start one of your own from.")
@click.option("--dry-run", is_flag=True, help="Print the stages, and which are finished.")
@click.option("--resume", is_flag=True, help="Only go on with a study that was begun in OUT.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder below which prepared data is, or will be [OUT/data].",
)
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE",
    help="CIFAR's archive, where it is not to be downloaded; may be repeated.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Set a field of the bases' solvers, as in solver_mode=CPU; may be repeated.",
)
@click.option(
    "--caffe",
    "caffe_path",
    metavar="PATH",
    help="The Caffe binary [$CAFFE, $CAFFE_ROOT, PATH, or what tools/install_caffe.py brought].",
)
@click.option("--gpu", metavar="IDS", help="GPUs, as Caffe takes them: 0 or 0,1 or all.")
@click.option(
    "--cluster",
    metavar="local|ADDRESS",
    help="Carry out stages as tasks of a Ray cluster, at the same time, on a shared folder.",
)
@click.option(
    "--cpus", type=float, default=1, show_default=True, help="CPUs that a stage takes there."
)
@click.option(
    "--gpus", type=float, default=0, show_default=True, help="GPUs that a stage takes there."
)
@click.option("--force", is_flag=True, help="Make stages anew that were made from other inputs.")
@click.pass_context
def command(
    context: click.Context,
    study: str | None,
    out: Path | None,
    listed: bool,
    show: bool,
    dry_run: bool,
    resume: bool,
    data: Path | None,
    archives: tuple[Path, ...],
    assignments: tuple[str, ...],
    caffe_path: str | None,
    gpu: str | None,
    cluster: str | None,
    cpus: float,
    gpus: float,
    force: bool,
) -> None:
    """Carry out STUDY: a study file, or the name of one that comes with caffesplit.

    A study trains its bases, splits them generation by generation, and trains the controls they
    are compared with, for every seed. What is finished in OUT is left alone, and what was broken
    off goes on, so the same command goes on with a study that was stopped. It ends in OUT with
    table.md, curves.png and report.html.
    """
    from caffesplit.engines import caffe_binary
    from caffesplit.engines.install import cache_folder
    from caffesplit.study import results
    from caffesplit.study.run import STUDY_FILE, alone, lay_out

    if study is None or listed:
        _print_list()
        return
    text, loaded = _read(study)
    if show:
        click.echo(text, nl=False)
        return
    out = out or Path("exp") / Path(study).stem
    if resume and not (out / STUDY_FILE).exists():
        raise click.UsageError(f"--resume: no study was begun in {out}.")
    added = tuple(
        base if base.trained else replace(base, assignments=(*base.assignments, *assignments))
        for base in loaded.bases
    )
    loaded = replace(loaded, bases=added)
    caffe = None if dry_run else caffe_binary.find(caffe_path)
    with alone(out, text):
        with bars() as progress:
            cache = cache_folder() / "data"
            layout = lay_out(loaded, out, data or out / "data", cache, archives, progress)
        if caffe is None:
            _print_stages(layout)
            return
        failed = _carry_out(layout, caffe, gpu, cluster, (cpus, gpus), force)
        table, written = results.write(layout)
    click.echo(f"\n{table.plain()}")
    for path, what in written.items():
        click.echo(f"{path}: {what}")
    if failed:
        click.echo(f"{failed} failed; the same command tries again", err=True)
        context.exit(1)


def _read(study: str) -> tuple[str, Study]:
    """The text of a study, and the study."""
    from caffesplit.errors import Location, StudyError
    from caffesplit.study.study_file import packaged, parse

    path = Path(study)
    if path.suffix == ".toml" or path.exists():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8"
            raise StudyError(
                f"the study file cannot be read ({reason})", "a text", at=Location(study)
            ) from error
        return text, parse(text, study, path.parent)
    known = packaged()
    if study not in known:
        raise StudyError(
            f"no study {study!r}",
            f"a file, or one of {', '.join(known)}",
            "`caffesplit run --list` tells what they are.",
        )
    return known[study], parse(known[study], f"studies/{study}.toml")


def _print_list() -> None:
    from caffesplit.report.tables import Table
    from caffesplit.study.study_file import packaged, parse

    rows = tuple((name, parse(text, name).title) for name, text in packaged().items())
    click.echo(Table(("Study", "What it asks"), rows).plain(), nl=False)


def _print_stages(layout: Layout) -> None:
    from caffesplit.report.tables import Table

    rows = tuple(
        (task.name, "finished" if layout.is_finished(task.stage) else "to do", task.stage.what)
        for task in layout.tasks
    )
    click.echo(Table(("Stage", "State", "What it is"), rows).plain(), nl=False)


def _carry_out(
    layout: Layout,
    caffe: Path,
    gpu: str | None,
    cluster: str | None,
    needs: tuple[float, float],
    force: bool,
) -> int:
    """Carry out what is left to do; return how many stages failed, or had to be left out."""
    from caffesplit.study.cluster import on_cluster
    from caffesplit.study.run import in_turn
    from caffesplit.study.stage import Interrupted, Means

    study, tasks = layout.study, layout.tasks
    left = sum(not layout.is_finished(task.stage) for task in tasks)
    click.echo(f"{len(tasks)} stages, {left} of them to do")
    train = _Caffe(caffe, shown=cluster is None)
    means = Means(train, _initialise, study.resume, gpu, force)
    workers = on_cluster(cluster, means, *needs) if cluster else in_turn(means)
    done = 0
    try:
        for task, result in workers(tasks):
            done += _told(task, result)
    except Interrupted:
        click.echo("stopped; the same command goes on here", err=True)
        raise click.Abort from None
    return len(tasks) - done


def _told(task: Task, result: Result) -> bool:
    """Say what became of a task; whether it is done."""
    from caffesplit.errors import CaffesplitError

    if isinstance(result, CaffesplitError):
        click.echo(f"{task.name}: {result}", err=True)
        return False
    click.echo(f"{task.name}: {task.stage.what}")
    return True


@dataclass(frozen=True)
class _Caffe:
    """Trains with the real Caffe."""

    caffe: Path
    shown: bool

    def __call__(self, experiment: Experiment, job: Job) -> Outcome:
        from caffesplit.cli.progress import training
        from caffesplit.engines import caffe_binary

        name = f"{experiment.folder.resolve().parent.name}/{experiment.name}"
        show = training(name, experiment.solver.max_iter) if self.shown else nullcontext(_unseen)
        with show as observe:
            return caffe_binary.train(job, self.caffe, observe)


def _unseen(record: object) -> None:
    pass


def _initialise(experiment: Experiment, out: Path) -> None:
    """Write LSUV weights for an experiment."""
    from caffesplit.engines import pycaffe
    from caffesplit.study.lsuv import Settings
    from caffesplit.study.lsuv_experiment import write_lsuv

    seed = experiment.solver.random_seed
    write_lsuv(experiment, out, pycaffe.find(None), Settings(seed=seed), seed=seed, force=True)
