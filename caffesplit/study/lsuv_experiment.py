"""LSUV for an experiment: from its net and training data to the weights that it starts from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caffesplit.engines import start
from caffesplit.engines.forward import Engine
from caffesplit.engines.pycaffe import State
from caffesplit.errors import Location, NetError
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel
from caffesplit.formats.blobs import Array
from caffesplit.formats.caffemodel import LayerWeights, Weights
from caffesplit.formats.output import check_targets
from caffesplit.formats.prototxt import Field, Message, Scalar
from caffesplit.net.graph import UPGRADE, Layer
from caffesplit.study.lsuv import Outcome, Settings, choose, lsuv

Progress = Callable[[int, int], None]

IMAGES = 128
"""That a variance is taken over, at least, unless asked otherwise."""

BATCHES = ("data_param", "image_data_param", "hdf5_data_param", "window_data_param")
"""Fields of a layer that say how many images are in a batch."""


@dataclass(frozen=True)
class Result:
    """What became of each layer with weights, and which were left alone, with why."""

    outcomes: tuple[Outcome, ...]
    left: Mapping[str, str]


def write_lsuv(
    experiment: Experiment,
    out: Path,
    engine: Engine,
    settings: Settings,
    *,
    weights: Path | None = None,
    batches: int | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> Result:
    """Write the initial weights of the net that is trained, all its layers, into `out`.

    Variances are those over the first images of its training data: `batches` of its batches, or
    as many as make `IMAGES`. What LSUV does not touch has the fillers' values or, where they are
    given, those in `weights`. `seed` is for all that Caffe draws at random.

    Raises:
        NetError: if the net is of V1, has no layer to initialise, or its data is not there.
        WeightsError: if `weights` are damaged, or another net's.
        EngineError: if the engine is not there, or Caffe does not run the net.
        OutputError: if `out` exists and `force` is false, or is an input.
    """
    given = [] if weights is None else [weights]
    check_targets([out], force=force, inputs=[*experiment.paths, *given])
    chosen, left = _chosen(experiment)
    start.check_sources(experiment.train_layers, experiment.root, experiment.moved)
    if weights is not None:
        start.check_weights(experiment, weights)
    net, trained = experiment.uses[0]
    text = _text(net.tree, batches or _enough(experiment.train_layers))
    state = State(text, experiment.root, weights, trained.level, trained.stages, seed)
    with engine(state) as running:
        # Of before any batch: running forward changes the statistics of BatchNorm.
        model = caffemodel.read(running.initial)
        outcomes = []
        own = {layer.name: model[layer.name][0] for layer in chosen}
        for outcome in lsuv(chosen, own, running, settings):
            outcomes.append(outcome)
            progress(len(outcomes), len(chosen))
        new = {each.layer: each.weights for each in outcomes if each.weights is not None}
        records = replacements(experiment.train_layers, model, new)
        caffemodel.splice(running.initial, out, records, force=force)
    return Result(tuple(outcomes), left)


def replacements(
    layers: Sequence[Layer], model: Weights, new: Mapping[str, Array]
) -> dict[str, tuple[LayerWeights, ...]]:
    """The records of a weight file where the layers of `new`, and those that share weights with
    them, have the new ones."""
    params = {layer.name: [spec.name for spec in layer.message.param] for layer in layers}
    shared = {
        params[name][0]: weights
        for name, weights in new.items()
        if params[name] and params[name][0]
    }
    records: dict[str, tuple[LayerWeights, ...]] = {}
    for name, names in params.items():
        if name in new or not shared.keys().isdisjoint(names):
            record = model.layer(name)
            blobs = list(record.blobs)
            for index, key in enumerate(names):
                if key in shared:
                    blobs[index] = shared[key].reshape(blobs[index].shape)
            blobs[0] = new.get(name, blobs[0])
            records[name] = (replace(record, blobs=tuple(blobs)),)
    return records


def _chosen(experiment: Experiment) -> tuple[tuple[Layer, ...], Mapping[str, str]]:
    """The layers to initialise, and those left alone, with why."""
    layers = experiment.train_layers
    if experiment.net.legacy:
        raise NetError(
            "a net in the V1 format (`layers { … }`)",
            "the current format (`layer { … }`)",
            UPGRADE,
            layers[0].location,
        )
    chosen, left = choose(layers)
    if not chosen:
        raise NetError(
            "no layer to initialise",
            "a Convolution, Deconvolution or InnerProduct that learns",
            at=Location(str(experiment.net_path)),
        )
    names = Counter(layer.name for layer in layers)
    for layer in chosen:
        if names[layer.name] > 1:
            raise NetError(
                f"{names[layer.name]} layers {layer.name!r}",
                "a name for each",
                "Weights are loaded by name. Rename the others.",
                layer.location,
            )
    return chosen, left


def _enough(layers: Sequence[Layer]) -> int:
    """How many batches make `IMAGES`, whichever layer they come from."""
    sizes = [
        getattr(layer.message, holder).batch_size
        for layer in layers
        for holder in BATCHES
        if layer.message.HasField(holder)
    ]
    return max((math.ceil(IMAGES / max(size, 1)) for size in sizes), default=1)


def _text(net: Message, batches: int) -> str:
    """The net as a file of its own, with batches that many times as large."""

    def enlarged(field: Field) -> Field:
        if field.name != "batch_size" or not isinstance(field.value, Scalar):
            return field
        return field.with_value(Scalar(str(int(field.value.literal, 0) * batches)))

    return str(replace(net.transformed(enlarged), open="", close=""))
