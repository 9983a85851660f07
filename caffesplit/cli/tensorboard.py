"""`caffesplit tensorboard`: logs and TPM as event files."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="Logs and TPM as event files of TensorBoard.")
@options.experiments
@options.output("DIR")
@options.windows(required=False)
@options.root
@options.force
def command(
    exps: tuple[str, ...],
    out: Path,
    windows: tuple[tuple[int, int], ...],
    root: str | None,
    force: bool,
) -> None:
    """Write a folder per experiment into DIR, for `tensorboard --logdir DIR`.

    It holds loss, learning rate and test outputs over the iterations, and histograms of TPM per
    layer, at the end of each --window [windows of 5 snapshots that slide over the training].
    Wall times are the log's own; where it names no year, the last that the file's date allows.
    """
    from caffesplit.cli.progress import steps
    from caffesplit.errors import Location, LogError
    from caffesplit.study.report import read
    from caffesplit.study.tensorboard import sliding_windows, write_events

    with steps("reading") as progress:
        report = read(exps, windows, root=root, progress=progress, choose=sliding_windows)
    written = write_events(report, out, force)
    for each in written:
        for part in sorted(each.subject.damaged):
            click.echo(f"{each.subject.name}: {each.subject.gaps[part]}; left out", err=True)
        if each.path is not None:
            click.echo(each.path)
    if all(each.path is None for each in written):
        raise LogError(
            "neither a log nor snapshots",
            "an experiment that was trained",
            at=Location(exps[0]),
        )
