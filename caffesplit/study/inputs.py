"""How large the images are that a net is trained on: its data tells, or the net for use beside it.

A prototxt says of a Data layer how many images make a batch, and where they are; their channels,
height and width are in the database. Where that is not at hand, deploy.prototxt gives the input's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from caffesplit.errors import CaffesplitError, DatabaseError
from caffesplit.experiment import Experiment
from caffesplit.formats import database, prototxt
from caffesplit.net import graph
from caffesplit.net.findings import Finding
from caffesplit.net.graph import PHASES, Layer, Net
from caffesplit.net.partial import LEGACY_AXES, Partial
from caffesplit.net.shape_sources import IMAGES, crop_size
from caffesplit.net.shapes import Shapes, infer
from caffesplit.net.solver import State

MAX_DATABASE_BYTES = 1 << 30
"""Of a database that is asked for its first image; it is looked through as a whole before."""


def train_shapes(experiment: Experiment) -> Shapes:
    """The shapes of the blobs of the net that is trained, as far as they can be told."""
    net, state = experiment.uses[0]
    batches = _batches(experiment, net, state)
    return infer(net, batches, state.phase, state.level, state.stages)


def image_shapes(experiment: Experiment, net: Net) -> dict[str, Partial]:
    """What a net of the experiment reads in each phase, by blob: (None, C, H, W).

    Blobs of which the phases read images of different sizes are left out.
    """
    found: dict[str, set[Partial]] = {}
    for phase in PHASES:
        for name, shape in _batches(experiment, net, State(phase)).items():
            found.setdefault(name, set()).add((None, *shape[1:]))
    return {name: shapes.pop() for name, shapes in found.items() if len(shapes) == 1}


def _batches(experiment: Experiment, net: Net, state: State) -> dict[str, Partial]:
    """The shapes of what a net reads in a state, where its prototxt leaves something open."""
    known = infer(net, {}, state.phase, state.level, state.stages).partial
    batches: dict[str, Partial] = {}
    for layer in state.layers(net):
        shape = known.get(layer.tops[0], ()) if layer.type in IMAGES else ()
        if None in shape:
            image = _in_database(experiment, layer) or _in_deploy(experiment, layer.tops[0])
            if image:
                batches[layer.tops[0]] = _filled(shape, image)
    return batches


def too_large_crops(experiment: Experiment) -> Iterator[Finding]:
    """Layers that crop more than there is of the first image in their database.

    Source: DataTransformer::InferBlobShape, src/caffe/data_transformer.cpp.
    """
    layers = (layer for net, state in experiment.uses for layer in state.layers(net))
    for layer in {id(layer): layer for layer in layers if layer.type == "Data"}.values():
        crop = crop_size(layer, layer.message.data_param)
        image = _in_database(experiment, layer) if crop else None
        if crop and image and crop > min(image[1:]):
            message = f"layer {layer.name!r}: crop_size {crop}, expected one that fits into the "
            message += f"images of its source; the first is {image[1]}×{image[2]}"
            yield Finding("crop-size", message, layer.location)


def _filled(shape: Partial, image: Partial) -> Partial:
    """The batch's shape, what it leaves open taken from an image (C, H, W)."""
    return tuple(
        size if size is not None else other
        for size, other in zip(shape, (None, *image), strict=True)
    )


def _in_database(experiment: Experiment, layer: Layer) -> tuple[int, int, int] | None:
    """The shape of the first image that a Data layer reads from an LMDB, unless it is encoded."""
    if layer.type != "Data":
        return None
    folder = experiment.root / layer.message.data_param.source
    with suppress(DatabaseError, OSError, ValueError):  # Some texts are no path at all.
        if (folder / database.DATA_FILE).stat().st_size <= MAX_DATABASE_BYTES:
            for _, datum in database.read(folder):
                return None if datum.encoded else (datum.channels, datum.height, datum.width)
    return None


def _in_deploy(experiment: Experiment, blob: str) -> Partial | None:
    """The shape of one image of the deploy net's input of that name."""
    if experiment.deploy_path is None:
        return None
    with suppress(CaffesplitError):
        net = graph.build(prototxt.load(experiment.deploy_path))
        tops = {top for layer in net.layers if layer.type == "Input" for top in layer.tops}
        shape = infer(net, phase="TEST").partial.get(blob, ())
        if blob in tops.union(net.inputs) and len(shape) == LEGACY_AXES:
            return shape[1:]
    return None
