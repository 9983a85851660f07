"""What became of the fields of Caffe's older formats: V0 (2013), V1 (2014) and early V2.

Source: src/caffe/util/upgrade_proto.cpp, tag 1.0; HEAD upgrades nets the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from caffesplit.errors import Location, NetError
from caffesplit.net.findings import Finding

T = TypeVar("T")


@dataclass(frozen=True)
class Upgrade(Generic[T]):
    """What an upgrade made of a definition: the new one, and an account of it.

    Attributes:
        result: the definition in today's format; the very one that was given if it was.
        steps: what was upgraded, in words; empty if nothing was.
        findings: what has no place in today's format, and was left out.
    """

    result: T
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def followed_by(self, later: Upgrade[T]) -> Upgrade[T]:
        """Both upgrades as one."""
        steps, findings = self.steps + later.steps, self.findings + later.findings
        return Upgrade(later.result, steps, findings)


V0_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
"""V0's layer types → V1's (UpgradeV0LayerType)."""

PADDING = "padding"
"""V0's layer type whose `pad` moved into the convolution or pooling that reads it."""

V0_NET = frozenset(["name", "layers", "input", "input_dim", "force_backward"])
"""Fields of a V0 net that Caffe takes over (UpgradeV0Net)."""

V0_CONNECTION = frozenset(["layer", "bottom", "top"])
"""Fields beside a V0 layer that Caffe takes over (UpgradeV0LayerParameter)."""

_V0_UNMOVED = frozenset(["name", "type", "blobs", "blobs_lr", "weight_decay"])

_V0_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}

_RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}

_V0_PARAMS = {
    "conv": (
        "convolution_param",
        "num_output biasterm weight_filler bias_filler pad kernelsize group stride",
    ),
    "innerproduct": ("inner_product_param", "num_output biasterm weight_filler bias_filler"),
    "pool": ("pooling_param", "pad kernelsize stride pool"),
    "dropout": ("dropout_param", "dropout_ratio"),
    "lrn": ("lrn_param", "local_size alpha beta k"),
    "data": ("data_param", "source batchsize rand_skip"),
    "hdf5_data": ("hdf5_data_param", "source batchsize"),
    "images": (
        "image_data_param",
        "source batchsize rand_skip shuffle_images new_height new_width",
    ),
    "window_data": (
        "window_data_param",
        "source batchsize det_fg_threshold det_bg_threshold det_fg_fraction det_context_pad "
        "det_crop_mode",
    ),
    "infogain_loss": ("infogain_loss_param", "source"),
    "concat": ("concat_param", "concat_dim"),
}


def v0_place(layer_type: str, name: str) -> tuple[str, ...] | None:
    """Where a field of a V0 layer is in V1: `(name,)`, `(param, name)`, or None if nowhere."""
    if name in _V0_UNMOVED or (layer_type, name) == ("hdf5_output", "hdf5_output_param"):
        return (name,)
    if name in _V0_TRANSFORM:
        return ("transform_param", _V0_TRANSFORM[name])
    param, names = _V0_PARAMS.get(layer_type, ("", ""))
    return (param, _RENAMED.get(name, name)) if name in names.split() else None


def v1_type(layer_type: str, at: Location) -> str:
    """V1's name of a V0 layer type.

    Raises:
        NetError: if V0 has no such type.
    """
    if layer_type not in V0_TYPES:
        raise NetError(
            f'V0 has no layer type "{layer_type}"',
            "one of " + ", ".join(sorted([*V0_TYPES, PADDING])),
            "Caffe could not load this net either; correct the type.",
            at,
        )
    return V0_TYPES[layer_type]


SPEC_FIELDS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1's lists with an entry per blob → fields of V2's `param` (UpgradeV1LayerParameter)."""

TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
"""Fields of a V1 data layer's param that moved to `transform_param`."""

DATA_PARAMS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
"""V1's layer types whose params had TRANSFORM_FIELDS (UpgradeNetDataTransformation)."""

INPUT_FIELDS = ("input", "input_shape", "input_dim")
"""Fields of a net that became an Input layer (UpgradeNetInput)."""

INPUT_DIMS = 4
"""`input_dim`s of one `input`."""

WITH_SHAPES, WITHOUT_SHAPES = "input fields", "input fields without shapes removed"
"""What the upgrade of input fields is called."""

BATCH_NORM_PARAMS = 3
"""`param`s of a BatchNorm layer written when it was the net that had to keep the solver from its
statistics (UpgradeNetBatchNorm)."""

SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
"""SolverParameter.solver_type → type (UpgradeSolverType)."""


def paddings(layers: Any, inputs: Any, places: list[Location]) -> dict[int, int]:
    """For each V0 layer that reads a padding layer, by index: the padding layer's index.

    `layers` are V1LayerParameters with a V0 layer each, `places` where they stand.

    Raises:
        NetError: for what Caffe refuses (UpgradeV0PaddingLayers).
    """
    writers = dict.fromkeys(inputs, -1)
    padded: dict[int, int] = {}
    for index, (layer, at) in enumerate(zip(layers, places, strict=True)):
        for bottom in layer.bottom:
            if bottom not in writers:
                raise NetError(
                    f'layer "{layer.layer.name}" reads "{bottom}", which no layer above it writes',
                    "a blob that is there",
                    "Correct the bottom's name, or the order of the layers.",
                    at,
                )
            writer = writers[bottom]
            if writer >= 0 and layers[writer].layer.type == PADDING:
                _check_padding(layer, layers[writer], at)
                padded[index] = writer
        writers.update(dict.fromkeys(layer.top, index))
    return padded


def _check_padding(reader: Any, padding: Any, at: Location) -> None:
    takes_pad = reader.layer.type in ("conv", "pool")
    sizes = (len(reader.bottom), len(padding.bottom), len(padding.top))
    if not takes_pad or sizes != (1, 1, 1):
        raise NetError(
            f'layer "{reader.layer.name}" of type {reader.layer.type} reads the padding layer '
            f'"{padding.layer.name}"',
            "a conv or pool layer with one bottom, behind a padding layer with one bottom and top",
            "Caffe could not load this net either; change these layers by hand.",
            at,
        )


def needs_data_upgrade(layers: Any) -> bool:
    """Whether one of the V1LayerParameters transforms its data in the old way."""
    for layer in layers:
        param = DATA_PARAMS.get(v1_name(layer))
        if param and any(getattr(layer, param).HasField(name) for name in TRANSFORM_FIELDS):
            return True
    return False


def v1_name(layer: Any) -> str:
    """The name of a V1LayerParameter's type in the enum, as in "INNER_PRODUCT"."""
    name: str = layer.LayerType.Name(layer.type) if layer.HasField("type") else ""
    return name


def has_old_statistics(layer: Any) -> bool:
    """Whether a LayerParameter is a BatchNorm layer whose `param`s Caffe changes."""
    return (
        layer.type == "BatchNorm"
        and len(layer.param) == BATCH_NORM_PARAMS
        and any(map(not_zero, layer.param))
    )


def not_zero(spec: Any) -> list[str]:
    """The multipliers of a ParamSpec that are not set to 0."""
    names = ("lr_mult", "decay_mult")
    return [name for name in names if getattr(spec, name) or not spec.HasField(name)]


def check_inputs(net: Any, at: Location) -> Iterator[Finding]:
    """Look at a NetParameter's input fields; yield a finding for each that is left over.

    Raises:
        NetError: if they give an input no shape, but others one.
    """
    inputs, shapes, dims = len(net.input), len(net.input_shape), len(net.input_dim)
    held, needed, noun = dims, INPUT_DIMS * inputs, "input_dim"
    if shapes:
        held, needed, noun = shapes, inputs, "input_shape"
        if dims:
            yield no_place("input_dim beside input_shape", at)
    if 0 < held < needed:
        raise NetError(
            f"{inputs} `input`s and {held} `{noun}`s",
            f"{needed} `{noun}`s",
            f"Give each input its `{noun}`{'' if shapes else 's: num, channels, height, width'}.",
            at,
        )
    if held > needed:
        yield no_place(f"{held - needed} more `{noun}`s than its `input`s take", at)


def no_place(what: str, at: Location) -> Finding:
    """The finding that something has no place in today's format."""
    return Finding("no-place", f"{what}: has no place today, left out", at, warning=True)


def mixture(at: Location) -> NetError:
    """The error for a net with layers of two formats."""
    return NetError(
        "layers of several formats in one net",
        "`layer`, or `layers`, or `layers` with a V0 `layer` in each",
        "Caffe refuses such a net, or loses layers; bring all of them into one format by hand.",
        at,
    )
