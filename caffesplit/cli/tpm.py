"""`caffesplit tpm`: how straight every kernel travelled, and how diverse each layer's are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.metric.trajectory import WindowScores


@click.command(short_help="TPM of every kernel, entropy of every layer.")
@options.experiment
@options.windows()
@options.layers
@options.snapshots
@click.option(
    "--bins",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Bins of the histogram whose entropy is taken.",
)
@click.option("--per-kernel", is_flag=True, help="Also print the TPM of each kernel.")
@options.json_output
@click.option(
    "--csv", "csv_path", metavar="FILE", help="Also write a row per layer as CSV (- is stdout)."
)
@options.plot("Draw the layers' histograms or, for several windows, their course")
@options.root
@options.force
def command(
    exp: str,
    windows: tuple[tuple[int, int], ...],
    layers: tuple[str, ...],
    snapshots: str | None,
    bins: int,
    per_kernel: bool,
    json_path: str | None,
    csv_path: str | None,
    plot_path: Path | None,
    root: str | None,
    force: bool,
) -> None:
    """Score the kernels of EXP's layers over windows of its training.

    TPM is 1 for a kernel that travelled straight and about the level of a random walk for one
    that did not get anywhere. Layers of high entropy hold diverse kernels: split those.
    """
    from caffesplit.cli.progress import steps
    from caffesplit.experiment import load
    from caffesplit.metric.trajectory import scores
    from caffesplit.report import figures
    from caffesplit.report import scores as report

    experiment = load(exp, root)
    names = options.chosen_layers(layers, experiment)
    options.check_outputs((json_path, csv_path, plot_path), force, experiment, snapshots)
    with steps("scoring") as progress:
        scored = scores(experiment.history(snapshots), windows, names, progress)
    if plot_path is not None:
        several = len(scored) > 1
        figure = (
            figures.tpm_windows(scored, bins)
            if several
            else figures.tpm_histograms(scored[0], bins)
        )
        figures.save(figure, plot_path, force)
    if csv_path is not None:
        options.write_text(report.score_csv(scored, bins), csv_path, force)
    if json_path is not None:
        options.write_json(report.score_json(scored, bins), json_path, force)
    if "-" not in (csv_path, json_path):
        for window in scored:
            click.echo(report.score_text(window, bins))
            if per_kernel:
                click.echo(report.kernel_table(window).plain())
    _warn_of_divergence(scored)


def _warn_of_divergence(scored: tuple[WindowScores, ...]) -> None:
    for window in scored:
        for layer in window.layers:
            if layer.diverged:
                first, last = window.window
                click.echo(
                    f"{layer.name}: {layer.diverged} kernels were NaN or infinite in "
                    f"{first}:{last}; they count as undefined",
                    err=True,
                )
