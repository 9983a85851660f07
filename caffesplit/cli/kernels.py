"""`caffesplit kernels`: a layer's kernels as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffesplit.cli import options, plans

if TYPE_CHECKING:
    from caffesplit.metric.history import Array
    from caffesplit.split.plan import LayerPlan

    Weights = Mapping[str, Array]
    """Layer → its kernels (N, C/G, *K)."""


@click.command(short_help="Show a layer's kernels as images.")
@click.argument("target", metavar="EXP|MODEL", type=click.Path(exists=True, path_type=Path))
@click.option("--layer", required=True, metavar="L", help="The layer.")
@options.output("FILE", "png, svg or pdf.")
@click.option(
    "--window",
    type=options.WindowType(),
    help="Show EXP's kernels at the start and at the end of this window of iterations.",
)
@click.option(
    "--before",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="MODEL",
    help="Show this file's kernels beside them.",
)
@click.option(
    "--edge",
    type=options.PairType(),
    metavar="E,C",
    help="Beside each kernel what a residual split makes of it: E·w, and C·w more at its centre.",
)
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Tells fast kernels from slow ones [the split.json beside the weights].",
)
@click.option(
    "--most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show so many kernels, of fast and slow ones each.",
)
@options.snapshots
@options.root
@options.force
def command(
    target: Path,
    layer: str,
    out: Path,
    window: tuple[int, int] | None,
    before: Path | None,
    edge: tuple[float, float] | None,
    plan_path: Path | None,
    most: int | None,
    snapshots: str | None,
    root: str | None,
    force: bool,
) -> None:
    """Draw the kernels of a layer: EXP's at its last snapshot, or those in the file MODEL.

    One colour scale for all of them; three channels are shown as red, green and blue, 1×1 kernels
    and inner products as a matrix. Where the layer was split, and a plan tells how, its kernels
    are taken from the two parts.
    """
    from caffesplit.experiment import load
    from caffesplit.formats.output import check_targets
    from caffesplit.report.figures import save
    from caffesplit.report.kernels import image
    from caffesplit.split.kernels import edge_preserving

    if sum(option is not None for option in (window, before, edge)) > 1:
        raise click.UsageError("Give one of --window, --before and --edge.")
    if window and _is_model(target):
        raise click.UsageError("--window is of an EXP; for two files give MODEL --before MODEL.")
    check_targets([out], force=force, inputs=[path for path in (target, before) if path])
    folder = target if target.is_dir() else target.parent
    plan = _plan(plan_path or plans.split_record(folder), layer, required=plan_path is not None)
    labels = ("before", "after")
    earlier = None
    if _is_model(target):
        weights = _of_model(target, layer, plan)
    else:
        experiment = load(target, root)
        history = experiment.history(snapshots)
        iterations = history.within(window) if window else history.iterations
        weights = _kernels(history.load(iterations[-1]), layer, plan, experiment.net_path)
        if window:
            earlier = _kernels(history.load(iterations[0]), layer, plan, experiment.net_path)
            labels = (f"iteration {iterations[0]:,}", f"iteration {iterations[-1]:,}")
    if before:
        earlier, labels = _of_model(before, layer, plan), (str(before), str(target))
    if edge:
        earlier, labels = weights, ("w", f"{edge[0]:g}·w, and {edge[1]:g}·w more at the centre")
        weights = edge_preserving(weights, *edge)
    figure = image(layer, weights, plan, earlier, labels, most)
    save(figure, out, force)
    click.echo(out)


def _is_model(target: Path) -> bool:
    return target.is_file() and target.suffix != ".prototxt"


def _plan(path: Path | None, layer: str, required: bool) -> LayerPlan | None:
    """The plan of a layer's split; None where a plan that was not asked for has none."""
    from caffesplit.errors import Location, SplitError

    layers = plans.read_plan(path).layers if path else ()
    for plan in layers:
        if plan.name == layer:
            return plan
    if required:
        raise SplitError(
            f"a plan without layer {layer!r}",
            f"one of {', '.join(plan.name for plan in layers)}",
            at=Location(str(path)),
        )
    return None


def _of_model(path: Path, layer: str, plan: LayerPlan | None) -> Array:
    """A layer's kernels as a weight file has them."""
    from caffesplit.formats import caffemodel

    read = caffemodel.read(path)
    shapes = {record.name: record.shapes for record in read.index.layers if record.blobs}
    names = [name for name, blobs in shapes.items() if len(blobs[0]) > 1]
    return _kernels({name: read.layer(name).blobs[0] for name in names}, layer, plan, path)


def _kernels(weights: Weights, layer: str, plan: LayerPlan | None, path: Path) -> Array:
    """The layer's kernels, or those of the two parts that it was split into."""
    import numpy as np

    from caffesplit.errors import Location, NetError, WeightsError

    if layer in weights:
        return np.asarray(weights[layer], np.float32)
    parts = {f"{layer}_split1": plan.fast, f"{layer}_split2": plan.slow} if plan else {}
    if plan and parts.keys() <= weights.keys():
        kernel = weights[f"{layer}_split1"].shape[1:]
        kernels = np.empty((plan.num_output, *kernel), np.float32)
        for name, places in parts.items():
            if weights[name].shape != (len(places), *kernel):
                raise WeightsError(
                    f"layer {name!r} of shape {weights[name].shape}",
                    f"{(len(places), *kernel)}, as the plan has it",
                    "Give the plan of the split that made this net: --plan FILE.",
                    Location(str(path)),
                )
            kernels[list(places)] = weights[name]
        return kernels
    raise NetError(
        f"no layer {layer!r} with kernels",
        f"one of {', '.join(weights)}" if weights else "a net with convolutions",
        at=Location(str(path)),
    )
