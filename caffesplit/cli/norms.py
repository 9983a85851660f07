"""`caffesplit norms`: the L2 norm of layers' weights at the ends of windows."""

from __future__ import annotations

from pathlib import Path

import click

from caffesplit.cli import options


@click.command(short_help="L2 norms of layers at the ends of windows.")
@options.experiment
@options.windows()
@options.layers
@options.snapshots
@options.json_output
@options.plot("Draw the norms over the iterations")
@options.root
@options.force
def command(
    exp: str,
    windows: tuple[tuple[int, int], ...],
    layers: tuple[str, ...],
    snapshots: str | None,
    json_path: str | None,
    plot_path: Path | None,
    root: str | None,
    force: bool,
) -> None:
    """Print the norm of each layer's weights at the first and last snapshot of each window."""
    from caffesplit.experiment import load
    from caffesplit.metric.trajectory import norms
    from caffesplit.report import figures
    from caffesplit.report import scores as report

    experiment = load(exp, root)
    names = options.chosen_layers(layers, experiment)
    options.check_outputs((json_path, plot_path), force, experiment, snapshots)
    found = norms(experiment.history(snapshots), windows, names)
    if plot_path is not None:
        figures.save(figures.norms(found), plot_path, force)
    if json_path is not None:
        options.write_json(report.norm_json(found), json_path, force)
    if json_path != "-":
        for window in found:
            first, last = window.window
            for layer in window.layers:
                click.echo(f"({first},{last}) {layer.name} {layer.start:.12g} -> {layer.end:.12g}")
