"""`caffesplit report`: one page with all that some experiments came to."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="One page: results, curves, TPM, nets, splits, folds.")
@options.experiments
@options.output("FILE.html")
@options.windows(required=False)
@options.metric
@options.root
@options.force
def command(
    exps: tuple[str, ...],
    out: Path,
    windows: tuple[tuple[int, int], ...],
    metric: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Put all that the experiments came to on one page, which opens from disk.

    EXP is an experiment, a fold's folder, a log, or a folder of these. TPM is scored in --window,
    or in the windows in which the experiments' splits were decided, or over all of a training.
    What is missing is told on the page, at its place.
    """
    from importlib.metadata import version

    from caffesplit.cli.progress import steps
    from caffesplit.errors import CaffesplitError, Location
    from caffesplit.formats.output import check_targets
    from caffesplit.net.findings import counted
    from caffesplit.report.page import page
    from caffesplit.study.report import read

    if out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"-o {out}: the report is a page; name it FILE.html.")
    check_targets([out], force=force)
    with steps("reading") as progress:
        report = read(exps, windows, metric, root, progress)
    for subject in report.subjects:
        for part in sorted(subject.damaged):
            click.echo(f"{subject.name}: {subject.gaps[part]}", err=True)
    if not any(subject.readable for subject in report.subjects):
        raise CaffesplitError("nothing of this can be read", "an experiment", at=Location(exps[0]))
    text = page(report, f"Written by caffesplit {version('caffesplit')}.")
    options.write_text(text, str(out), force)
    click.echo(f"{out}: {counted(len(report.subjects), 'experiment')}")
