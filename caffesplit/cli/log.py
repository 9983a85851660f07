"""`caffesplit log`: what the runs reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from caffesplit.cli import logs as log_files
from caffesplit.cli import options
from caffesplit.formats.output import replacing
from caffesplit.report import excerpts, tables
from caffesplit.report.runs import Result, Run, Score, results


class LogCommand(click.Command):
    """Takes `--best` without its number, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        following = [*args[1:], ""]
        given = [
            "--best=1" if arg == "--best" and not after.isdecimal() else arg
            for arg, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, given)


@click.command("log", cls=LogCommand, short_help="What runs reached: final and best accuracy.")
@log_files.argument
@click.option("--final", is_flag=True, help="Only the table Net | Acc.")
@click.option(
    "--best",
    metavar="[N]",
    type=click.IntRange(min=1),
    help="Only the table Net | Best Acc, of the N best tests.",
)
@click.option(
    "--lines",
    is_flag=True,
    help="With --final or --best: the log's own lines instead of a table.",
)
@click.option(
    "--events",
    is_flag=True,
    help="What happened when: start, resume, step, snapshot, diverged, stopped, done …",
)
@options.metric
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option(
    "--csv",
    "csv_folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write LOG.train and LOG.test into DIR, with the columns of Caffe's parse_log.py.",
)
@options.json_output
@options.force
def command(
    logs: tuple[str, ...],
    final: bool,
    best: int | None,
    lines: bool,
    events: bool,
    metric: str | None,
    markdown: bool,
    csv_folder: Path | None,
    json_path: str | None,
    force: bool,
) -> None:
    """Print what each run reached: its final and its best test accuracy.

    EXP is an experiment's folder or its solver, for its train.log (or its *.log files); a folder
    of experiments means all of theirs; - is standard input. Logs may be gzipped.
    """
    views = {"--final": final, "--best": best is not None, "--events": events}
    if len(given := [name for name, wanted in views.items() if wanted]) > 1:
        raise click.UsageError(f"Give one of {', '.join(given)}.")
    if lines and not (final or best):
        raise click.UsageError("--lines goes with --final or --best.")
    runs = log_files.read_logs(log_files.find_logs(logs), training=csv_folder is not None)
    # Logs without tests have no table, but their training rows are worth a CSV.
    tested = any(run.log.test for run in runs) or not (csv_folder or events)
    found = results(runs, metric, best or 1) if tested else ()
    _warn_of_divergence(runs)
    if csv_folder is not None:
        _write_csv(runs, csv_folder, force)
    if json_path is not None:
        options.write_json(_as_json(found, metric, runs if events else ()), json_path, force)
    if json_path == "-":
        return
    if lines:
        _print_lines(runs, metric, best)
    elif found or events:
        if events:
            table = tables.event_table(runs)
        elif final:
            table = tables.final_table(found, metric)
        elif best:
            table = tables.best_table(found, metric)
        else:
            table = tables.result_table(found, metric)
        click.echo(table.markdown() if markdown else table.plain(), nl=False)


def _print_lines(runs: Sequence[Run], metric: str | None, best: int | None) -> None:
    """Like grep, with the log's path before each line where there are several logs."""
    for run in runs:
        place = f"{run.log.path}:" if len(runs) > 1 else ""
        lines = excerpts.best_lines(run, metric, best) if best else excerpts.final_lines(run)
        for line in lines:
            click.echo(place + line.rstrip("\r"))


def _warn_of_divergence(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.log.diverged_at is not None:
            loss = run.log.train[-1].loss
            click.echo(
                f"{run.name}: diverged, loss = {loss:.6g} since iteration {run.log.diverged_at}",
                err=True,
            )


def _write_csv(runs: Sequence[Run], folder: Path, force: bool) -> None:
    """Name the files after the logs, and after the nets too where logs share a name."""
    names = ["stdin" if run.log.path == "-" else Path(run.log.path).name for run in runs]
    files: dict[Path, str] = {}
    for run, name in zip(runs, names, strict=True):
        if names.count(name) > 1:
            name = f"{run.name.replace('/', '_')}_{name}"
        files[folder / f"{name}.train"] = tables.parse_log_csv(run.log.train)
        files[folder / f"{name}.test"] = tables.parse_log_csv(run.log.test)
    with replacing(*files, force=force) as staged:
        for path, text in zip(staged, files.values(), strict=True):
            path.write_text(text, encoding="utf-8")


def _as_json(
    found: Sequence[Result], metric: str | None, runs_with_events: Sequence[Run]
) -> dict[str, Any]:
    nets = [
        {
            "net": result.net,
            "metric": result.metric,
            "final": _score(result.final),
            "best": _score(result.best),
            **({"bests": [_score(s) for s in result.bests]} if len(result.bests) > 1 else {}),
        }
        for result in found
    ]
    events = [
        {
            "net": run.name,
            "event": event.kind,
            "iteration": event.iteration,
            "seconds": _finite(event.seconds),
            "value": event.value,
        }
        for run in runs_with_events
        for event in run.events
    ]
    value = {"metric": metric or "accuracy", "nets": nets}
    return {**value, "events": events} if runs_with_events else value


def _score(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {"iteration": score.iteration, "value": _finite(score.value)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
