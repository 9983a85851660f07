"""`caffesplit run`: chains of splits with their controls, as a study file tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options
from caffesplit.cli.data_options import Finite

if TYPE_CHECKING:
    from caffesplit.study.run import Layout
    from caffesplit.study.stage_make import Start
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
@options.engine_choice
@options.gpu
@click.option(
    "--cluster",
    metavar="local|ADDRESS",
    help="Carry out stages as tasks of a Ray cluster, at the same time, on a shared folder.",
)
@click.option(
    "--cpus",
    type=Finite(min=0),
    metavar="N",
    help="CPUs of the cluster that a stage takes.  [default: 1]",
)
@click.option(
    "--gpus",
    type=Finite(min=0),
    metavar="N",
    help="GPUs of the cluster that a stage takes; Ray chooses which.  [default: 0]",
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
    name: str,
    caffe: str | None,
    precision: str,
    gpu: str | None,
    cluster: str | None,
    cpus: float | None,
    gpus: float | None,
    force: bool,
) -> None:
    """Carry out STUDY: a study file, or the name of one that comes with caffesplit.

    A study trains its bases, splits them generation by generation, and trains the controls they
    are compared with, for every seed. What is finished in OUT is left alone, and what was broken
    off goes on, so the same command goes on with a study that was stopped. It ends in OUT with
    table.md, curves.png and report.html.

    A study file is TOML; docs/studies.md tells all its keys, and --show prints an example.
    """
    from caffesplit.cli import run_stages as stages
    from caffesplit.engines.choice import choose
    from caffesplit.study import results
    from caffesplit.study.run import lay_out, tasks
    from caffesplit.study.study_folder import STUDY_FILE, alone

    if study is None or listed:
        _print_list()
        return
    if cluster is None and (cpus is not None or gpus is not None):
        raise click.UsageError("--cpus and --gpus are --cluster's: give it, too.")
    if cluster is not None and gpu is not None:
        raise click.UsageError("--gpu chooses GPUs of this machine: with --cluster, give --gpus N.")
    text, loaded = _read(study)
    if show:
        click.echo(text, nl=False)
        return
    out = out or Path("exp") / Path(study).stem
    if resume and not (out / STUDY_FILE).exists():
        raise click.UsageError(f"--resume: no study was begun in {out}.")
    layout = lay_out(_with(loaded, assignments), out)
    if dry_run:
        _print_stages(layout)
        return
    layout.check(force)
    left = sum(not layout.is_finished(stage) for stage in layout.stages)
    chosen = choose(name, caffe, precision) if left else None
    failed: dict[str, str] = {}
    with alone(out, text):
        click.echo(f"{len(layout.stages)} stages, {left} of them to do")
        if chosen is not None:
            todo = tasks(layout, _starts(layout, data or layout.out / "data", archives))
            means = stages.means(layout.study, todo, chosen, name, gpu, force, cluster is None)
            with stages.workers(means, cluster, 1 if cpus is None else cpus, gpus or 0) as work:
                failed = stages.carry_out(todo, work)
        table, written = results.write(layout, failed)
    click.echo(f"\n{table.plain()}")
    for path, what in written.items():
        click.echo(f"{out / path.name}: {what}")
    if failed:
        click.echo(
            f"missing: {len(failed)} of {len(layout.stages)} stages; the same command tries again",
            err=True,
        )
        context.exit(1)


def _with(study: Study, assignments: tuple[str, ...]) -> Study:
    """The study with more fields set in the solvers of its bases, those that are to be trained."""
    return replace(
        study,
        bases=tuple(
            base if base.trained else replace(base, assignments=(*base.assignments, *assignments))
            for base in study.bases
        ),
    )


def _starts(layout: Layout, data: Path, archives: tuple[Path, ...]) -> dict[str, Start]:
    """What the bases start from, with their data."""
    from caffesplit.cli.data_options import bars
    from caffesplit.engines.install import cache_folder
    from caffesplit.study import bases

    with bars() as progress:
        return {
            base.name: bases.start(
                base,
                layout.experiments[base.name],
                layout.out,
                data.absolute(),
                cache_folder() / "data",
                archives,
                progress,
            )
            for base in layout.study.bases
        }


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

    rows = tuple((str(stage), layout.progress(stage), stage.what) for stage in layout.stages)
    click.echo(Table(("Stage", "State", "What it is"), rows).plain(), nl=False)
