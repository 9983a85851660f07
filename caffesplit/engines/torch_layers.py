"""The layer types that the torch engine runs: a table from a type's name to its setup.

Data layers are not among them: a net takes their tops from outside.
"""

from __future__ import annotations

from collections.abc import Mapping

from caffesplit.engines.torch_layers_convolution import CONVOLUTIONS
from caffesplit.engines.torch_layers_linear import LINEAR
from caffesplit.engines.torch_layers_loss import LOSSES, MEASURES
from caffesplit.engines.torch_layers_neuron import NEURONS
from caffesplit.engines.torch_layers_norm import NORMS
from caffesplit.engines.torch_layers_pooling import POOLINGS
from caffesplit.engines.torch_layers_recurrent import RECURRENT
from caffesplit.engines.torch_layers_setup import Build
from caffesplit.engines.torch_layers_shape import SHAPES
from caffesplit.errors import NetError
from caffesplit.formats import schema
from caffesplit.net.graph import Layer

LAYERS: Mapping[str, Build] = {
    **CONVOLUTIONS,
    **LINEAR,
    **LOSSES,
    **MEASURES,
    **NEURONS,
    **NORMS,
    **POOLINGS,
    **RECURRENT,
    **SHAPES,
}

DATA_TYPES = frozenset({"Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData"})
"""Types whose tops come from outside the net."""

ABSENT: Mapping[str, str] = {
    "HDF5Output": "Take the layer out, or keep it out of training: exclude { phase: TRAIN }.",
    "Python": "Its code works on Caffe's own blobs: train with --engine caffe.",
    "WindowData": "Write its windows into an LMDB or a list for ImageData, "
    "or train with --engine caffe.",
}
"""Types that BVLC Caffe has and this engine has not, and what to do about each."""


def build_of(layer: Layer) -> Build:
    """What sets up a layer.

    Raises:
        NetError: for a type that this engine does not run.
    """
    if layer.type in LAYERS:
        return LAYERS[layer.type]
    known = layer.type in schema.layer_types()
    raise NetError(
        f"layer {layer.name!r} is of type {layer.type!r}",
        "a type that the torch engine runs" if known else "one of BVLC Caffe's layer types",
        ABSENT.get(layer.type, "A fork's own layer needs that fork: train with --engine caffe."),
        layer.location,
    )
