"""`caffesplit report`: one page with all that some experiments came to."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="One page: results, curves, TPM, nets, splits, folds.")
@click.argument("exps", nargs=-1, required=True, type=click.Path(), metavar="EXP...")
@click.option(
    "-o", "--output", "out", required=True, type=options.OutputType(), metavar="FILE.html"
)
@options.windows(required=False)
@click.option(
    "--metric",
    metavar="NAME",
    help='Test output to compare [accuracy, or the first with "acc" in its name].',
)
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
    from caffesplit.formats.output import check_targets
    from caffesplit.report.page import page
    from caffesplit.study.report import read

    if out.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"-o {out}: the report is a page; name it FILE.html.")
    check_targets([out], force=force)
    with steps("reading") as progress:
        report = read(exps, windows, metric, root, progress)
    text = page(report, f"Written by caffesplit {version('caffesplit')}.")
    options.write_text(text, str(out), force)
    for subject in report.subjects:
        for part in sorted(subject.damaged):
            click.echo(f"{subject.path}: {subject.gaps[part]}", err=True)
    click.echo(f"{out}: {len(report.subjects)} experiments")
