"""How many iterations an epoch of an experiment has: its training set over its batch."""

from __future__ import annotations

from pathlib import Path

from caffesplit.errors import CaffesplitError, Location, NetError
from caffesplit.experiment import Experiment
from caffesplit.formats import database
from caffesplit.net.graph import Layer

BATCHES = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "HDF5Data": "hdf5_data_param",
    "WindowData": "window_data_param",
    "MemoryData": "memory_data_param",
}
"""Types of layers that read images, and the fields in which they say how many at once."""

REMEDY = "Give the number of training images, --epoch-size N, or draw over iterations."


def iterations(experiment: Experiment, images: int | None = None) -> float:
    """The iterations in which training on one GPU has seen as many images as the set has.

    An iteration sees batch_size × iter_size of them. The set is the records of a Data layer's
    LMDB, the lines of an ImageData layer's list, or `images`, where given.

    Raises:
        NetError: if the net does not say how large a batch is.
        CaffesplitError: if the size of the training set cannot be told.
    """
    for layer in experiment.train_layers:
        batch = _batch_size(layer)
        if batch > 0:
            size = images if images is not None else _images(experiment, layer)
            return size / (batch * experiment.solver.iter_size)
    raise NetError(
        "no layer says how many images make a batch",
        f"a batch_size in a layer of type {', '.join(BATCHES)}",
        "Draw over iterations: --x iteration.",
        Location(str(experiment.net_path)),
    )


def _batch_size(layer: Layer) -> int:
    field = BATCHES.get(layer.type)
    return int(getattr(layer.message, field).batch_size) if field else 0


def _images(experiment: Experiment, layer: Layer) -> int:
    """How many images a layer reads before it starts anew."""
    if layer.type == "Data":
        images = _records(experiment.root / layer.message.data_param.source)
    elif layer.type == "ImageData":
        images = _lines(experiment.root / layer.message.image_data_param.source)
    else:
        raise NetError(
            f'layer "{layer.name}" of type {layer.type} does not tell how many images it reads',
            "a Data layer with an LMDB, or an ImageData layer",
            REMEDY,
            Location(str(experiment.net_path)),
        )
    if not images:
        raise NetError("the training set is empty", "images", REMEDY, Location(layer.name))
    return images


def _records(folder: Path) -> int:
    try:
        return database.count(folder)
    except (CaffesplitError, OSError, ValueError) as error:  # Some texts are no path at all.
        found = error.found if isinstance(error, CaffesplitError) else "no such LMDB"
    raise NetError(
        f"the training set cannot be counted: {found}", "an LMDB", REMEDY, Location(str(folder))
    )


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(bool(line.strip()) for line in file)
    except (OSError, ValueError):
        raise NetError(
            "the training set cannot be counted: no such file",
            "a list of images",
            REMEDY,
            Location(str(path)),
        ) from None
