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
from caffesplit.report import tables
from caffesplit.report.runs import Result, Run, Score, results


@click.command("log", short_help="What runs reached: final and best accuracy.")
@log_files.argument
@click.option("--final", "view", flag_value="final", help="Only the table Net | Acc.")
@click.option("--best", "view", flag_value="best", help="Only the table Net | Best Acc.")
@click.option(
    "--metric",
    metavar="NAME",
    help='Test output [accuracy, or the first with "acc" in its name].',
)
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
    view: str | None,
    metric: str | None,
    markdown: bool,
    csv_folder: Path | None,
    json_path: str | None,
    force: bool,
) -> None:
    """Print what each run reached: final accuracy, best accuracy and where, gain over the first.

    A folder means its train.log (or its *.log files); a folder of experiments means all of
    theirs; - is standard input. Logs may be gzipped.
    """
    runs = log_files.read_logs(log_files.find_logs(logs))
    # Logs without tests have no table, but their training rows are worth a CSV.
    tested = any(run.log.test for run in runs) or csv_folder is None
    found = results(runs, metric) if tested else ()
    _warn_of_divergence(runs)
    if csv_folder is not None:
        _write_csv(runs, csv_folder, force)
    if json_path is not None:
        options.write_json(_as_json(found, metric), json_path, force)
    if found and json_path != "-":
        render = {"final": tables.final_table, "best": tables.best_table}
        table = render.get(view or "", tables.result_table)(found, metric)
        click.echo(table.markdown() if markdown else table.plain(), nl=False)


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


def _as_json(found: Sequence[Result], metric: str | None) -> dict[str, Any]:
    nets = [
        {
            "net": result.net,
            "metric": result.metric,
            "final": _score(result.final),
            "best": _score(result.best),
        }
        for result in found
    ]
    return {"metric": metric or "accuracy", "nets": nets}


def _score(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    value = score.value if math.isfinite(score.value) else None
    return {"iteration": score.iteration, "value": value}
