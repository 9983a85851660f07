"""`caffesplit demo`: the whole main job on bundled real data, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options

if TYPE_CHECKING:
    from caffesplit.engines.choice import Engine


@click.command(short_help="The whole main job on bundled real data, in minutes.")
@click.argument(
    "folder", default="demo", type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]"
)
@options.engine
@options.force
def command(folder: Path, engine: Engine, force: bool) -> None:
    """Train a small net on handwritten digits, split it by TPM twice, and compare with controls.

    Everything lands in DIR [demo]; look at curves.png and tpm.png there.
    """
    from caffesplit import experiment
    from caffesplit.cli.progress import training
    from caffesplit.engines import job
    from caffesplit.study import demo

    def train(path: Path) -> None:
        loaded = experiment.load(path, folder)
        with training(loaded.name, loaded.solver.max_iter, engine.title(None)) as observe:
            outcome = engine.train(job.prepare(loaded), observe)
        if outcome.stopped:
            raise click.Abort

    def say(text: str) -> None:
        click.echo(f"\n{text}" if "\n" in text else text)

    click.echo(f"Seven trainings with {engine.title(None)}")
    results = demo.run(folder, train, say, force)
    click.echo(f"\n{results.table.plain()}")
    click.echo(f"One training each: differences below {demo.NOISE} are noise.\n")
    click.echo("Look at:")
    for path, what in results.pictures.items():
        click.echo(f"  {path}: {what}")
    click.echo(f"  {folder / 'derived1'}: a derived experiment; split.json tells what was split")
    click.echo(f"  {folder / 'folded'}: derived2 folded back, to deploy in the baseline's place")
    click.echo("Go on with:")
    click.echo(f"  caffesplit tpm {folder / 'derived2'} --window 600:2000")
    click.echo(
        f"  caffesplit split {folder / 'derived2'} --window 600:2000 --top 1 "
        f"-o {folder / 'derived3'}"
    )
