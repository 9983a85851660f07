"""From an experiment's snapshots to a plan: score its kernels, choose the layers."""

from __future__ import annotations

from collections.abc import Sequence

from caffesplit.errors import Location, SplitError
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel
from caffesplit.metric.trajectory import Progress, scores
from caffesplit.net.graph import UPGRADE, Layer
from caffesplit.report.scores import by_entropy
from caffesplit.split import plan as plans
from caffesplit.split.geometry import PARAMETERS
from caffesplit.split.plan import Plan
from caffesplit.split.requirements import splittable
from caffesplit.split.rewrite import Weights


def decide(
    experiment: Experiment,
    window: tuple[int, int],
    layers: Sequence[str] | int,
    method: str = "residual",
    partition: str = "half",
    seed: int = 0,
    prefix: str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The plan to split `layers`: the ones named, or so many of the highest entropy.

    Raises:
        SplitError: if a named layer cannot be split, or fewer than so many can.
        SnapshotError: if the window holds fewer than two snapshots.
    """
    history = experiment.history(prefix)
    last = history.within(window)[-1]
    weights = caffemodel.read(experiment.weights_path(last, prefix))
    if isinstance(layers, int):
        candidates = _all_splittable(experiment, weights, at_least=layers)
    else:
        candidates = [splittable(experiment.net, weights, name) for name in layers]
    (scored,) = scores(history, [window], [layer.name for layer in candidates], progress)
    if isinstance(layers, int):
        layers = [layer.name for layer in by_entropy(scored)[:layers]]
    group_of = {layer.name: layer.group for layer in candidates}
    return plans.decide(scored, layers, group_of, method, partition, seed)


def _all_splittable(experiment: Experiment, weights: Weights, at_least: int) -> list[Layer]:
    found, refusals = [], []
    for layer in experiment.train_layers:
        if layer.type in PARAMETERS:
            try:
                found.append(splittable(experiment.net, weights, layer.name))
            except SplitError as error:
                refusals.append(error.found)
    if len(found) < at_least:
        counted = f"{len(found)} layers that can be split"
        remedy = f"Not these: {'; '.join(refusals)}." if refusals else ""
        if experiment.net.legacy:
            counted += ": all are in the V1 format (`layers { … }`)"
            remedy = UPGRADE
        raise SplitError(
            counted,
            f"{at_least}, as asked for",
            remedy,
            Location(str(experiment.net_path)),
        )
    return found
