"""What Caffe 1.0 refuses about one layer, whatever the shapes of its bottoms.

Sources: Net::Init and Net::FilterNet in src/caffe/net.cpp, Layer::CheckBlobCounts and
SetLossWeights in include/caffe/layer.hpp, LayerSetUp of each type in src/caffe/layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from caffesplit.formats import prototxt, schema
from caffesplit.net.blobs import expected_blobs
from caffesplit.net.findings import Finding, counted
from caffesplit.net.graph import Layer
from caffesplit.net.partial import shown
from caffesplit.net.shape_recurrent import STATES, exposed
from caffesplit.net.shape_windows import pooling_sides

TYPES = schema.layer_types()

Counts = tuple[int, int | None]
NONE, ONE, TWO, THREE, SOME = (0, 0), (1, 1), (2, 2), (3, 3), (1, None)
_ONE_TO_ONE = """
AbsVal ArgMax BatchNorm BNLL Clip Dropout ELU Embed Exp Flatten Im2col InnerProduct Log LRN MVN
Power PReLU Reduction ReLU Reshape Sigmoid Softmax SPP Swish TanH Threshold Tile
"""
_LOSSES = "EuclideanLoss HingeLoss MultinomialLogisticLoss SigmoidCrossEntropyLoss"
"""Caffe adds the top of a loss that has none (Layer::AutoTopBlobs)."""

COUNTS: dict[str, tuple[Counts, Counts]] = {
    **dict.fromkeys(_ONE_TO_ONE.split(), (ONE, ONE)),
    **dict.fromkeys(_LOSSES.split(), (TWO, (0, 1))),
    "Accuracy": (TWO, (1, 2)),
    "BatchReindex": (TWO, ONE),
    "Bias": ((1, 2), ONE),
    "Concat": (SOME, ONE),
    "ContrastiveLoss": (THREE, (0, 1)),
    "Convolution": (SOME, SOME),
    "Crop": (TWO, ONE),
    "Data": (NONE, (1, 2)),
    "Deconvolution": (SOME, SOME),
    "DummyData": (NONE, SOME),
    "Eltwise": ((2, None), ONE),
    "Filter": ((2, None), SOME),
    "HDF5Data": (NONE, SOME),
    "HDF5Output": (TWO, NONE),
    "ImageData": (NONE, TWO),
    "InfogainLoss": ((2, 3), (0, 2)),
    "Input": (NONE, SOME),
    "LSTMUnit": (THREE, TWO),
    "MemoryData": (NONE, TWO),
    "Parameter": (NONE, ONE),
    "Pooling": (ONE, (1, 2)),
    "Scale": ((1, 2), ONE),
    "Silence": (SOME, NONE),
    "Slice": (ONE, SOME),
    # Caffe means it to have two tops, but then stops in SetLossWeights: of this layer, or, where
    # both weights are given, of the Softmax inside it.
    "SoftmaxWithLoss": (TWO, (0, 1)),
    "Split": (ONE, SOME),
    "WindowData": (NONE, TWO),
}
"""How many bottoms and tops a layer of each type has: at least and at most."""


def typed_layers(layer: Layer) -> Iterator[Finding]:
    written = isinstance(layer.field.value, prototxt.Message) and layer.field.value.get("type")
    if not layer.type and (not written or layer.message.HasField("type")):
        yield _breach("typed-layers", layer, "no type, expected one of Caffe's layer types")


def unknown_types(layer: Layer) -> Iterator[Finding]:
    """A fork's type, or a misspelled one. (Old nets' types are an enum's values.)"""
    if layer.type and layer.type not in TYPES:
        message = f"layer {layer.name!r}: BVLC Caffe has no layer type {layer.type!r}"
        yield Finding(
            "unknown-type",
            message,
            layer.location,
            True,
            layer.type,
            known=sorted(TYPES),
        )


def named_layers(layer: Layer) -> Iterator[Finding]:
    """Caffe runs a layer without a name."""
    if not layer.name:
        message = f"a {layer.type} layer without a name; weights are loaded by name"
        yield Finding("named-layers", message, layer.location, warning=True)


def include_or_exclude(layer: Layer) -> Iterator[Finding]:
    if layer.message.include and layer.message.exclude:
        yield _breach("include-or-exclude", layer, "`include` beside `exclude`, expected one kind")


def blob_counts(layer: Layer) -> Iterator[Finding]:
    counts = _recurrent_counts(layer) if layer.type in STATES else COUNTS.get(layer.type)
    if not counts:
        return
    found = {"bottom": len(layer.bottoms), "top": len(layer.tops)}
    for (kind, count), (least, most) in zip(found.items(), counts, strict=True):
        if count < least or (most is not None and count > most):
            expected = f"{counted(count, kind)}, expected {_between(least, most)}"
            yield _breach("blob-counts", layer, expected, kind)
    if layer.type in CONVOLUTIONS and layer.bottoms and len(layer.bottoms) != len(layer.tops):
        bottoms, tops = counted(len(layer.bottoms), "bottom"), counted(len(layer.tops), "top")
        if layer.tops:
            yield _breach("blob-counts", layer, f"{tops}, expected one for each of {bottoms}")
    if layer.type == "Filter" and len(layer.bottoms) > 1 and layer.tops:
        passed = len(layer.bottoms) - 1
        if len(layer.tops) != passed:
            message = f"{counted(len(layer.tops), 'top')}, expected {passed}: one for each bottom"
            yield _breach("blob-counts", layer, f"{message} but the selector")


def _recurrent_counts(layer: Layer) -> tuple[Counts, Counts]:
    """x, cont and perhaps a static input; with expose_hidden the states as well."""
    states = exposed(layer)
    return (2 + states, 3 + states), (1 + states, 1 + states)


def in_place(layer: Layer) -> Iterator[Finding]:
    if layer.type in NEVER_IN_PLACE and layer.bottoms[:1] == layer.tops[:1]:
        message = f"a {layer.type} layer works in place on {layer.bottoms[0]!r}"
        yield _breach("in-place", layer, f"{message}, expected a top of another name")


def fields_per_blob(layer: Layer) -> Iterator[Finding]:
    """`propagate_down` for each bottom or none, `loss_weight` for each top or none."""
    for name, kind, count in (
        ("propagate_down", "bottom", len(layer.bottoms)),
        ("loss_weight", "top", len(layer.tops)),
    ):
        given = len(getattr(layer.message, name, ()))
        if given and count and given != count:
            message = f"{name} is given {_times(given)}, expected none or one for each {kind}"
            yield _breach("fields-per-blob", layer, message, name)
    if layer.type == "InfogainLoss" and len(layer.tops) == 2 and not layer.message.loss_weight:
        message = "2 tops without loss_weight, expected one for each top: Caffe adds only one"
        yield _breach("fields-per-blob", layer, message)


def param_count(layer: Layer) -> Iterator[Finding]:
    """No more `param` than blobs with learned values."""
    blobs = expected_blobs(layer)
    if blobs is None:
        return
    given = _params(layer.message)
    if given > len(blobs):
        message = f"{given} `param`, expected at most {len(blobs)}: it has no more blobs"
        yield _breach("param-count", layer, message)


def fixed_statistics(layer: Layer) -> Iterator[Finding]:
    """BatchNorm's blobs are no learned ones. With three `param`, Caffe corrects them itself."""
    if layer.type != "BatchNorm" or len(layer.message.param) >= 3:
        return
    if any(spec.lr_mult for spec in layer.message.param):
        yield _breach("fixed-statistics", layer, "BatchNorm's lr_mult is not 0, expected 0")


def outputs(layer: Layer) -> Iterator[Finding]:
    for name in OUTPUTS.get(layer.type, ()):
        if not getattr(_parameter(layer), name):
            yield _breach("outputs", layer, f"{name} is missing or 0, expected 1 or more", name)


def groups(layer: Layer) -> Iterator[Finding]:
    if layer.type not in CONVOLUTIONS:
        return
    group, num_output = _parameter(layer).group, _parameter(layer).num_output
    if group == 0:
        yield _breach("groups", layer, "group is 0, expected 1 or more")
    elif num_output % group:
        message = f"group {group} does not divide num_output {num_output}, expected that it does"
        yield _breach("groups", layer, message)


def kernel_sizes(layer: Layer) -> Iterator[Finding]:
    """kernel_size, or kernel_h and kernel_w, all above 0."""
    if layer.type not in WINDOWED:
        return
    parameter = _parameter(layer)
    if layer.type == "Pooling" and parameter.global_pooling:
        if _given(parameter, "kernel_size", "kernel_h", "kernel_w"):
            message = "a kernel size beside global_pooling, expected one of the two"
            yield _breach("kernel-sizes", layer, message)
        return
    square, sides = _given(parameter, "kernel_size"), _given(parameter, "kernel_h", "kernel_w")
    if square and sides:
        message = "kernel_size beside kernel_h and kernel_w, expected one of the two"
        yield _breach("kernel-sizes", layer, message)
    elif not square and not sides:
        message = "no kernel_size, expected it, or kernel_h and kernel_w"
        yield _breach("kernel-sizes", layer, message)
    elif 0 in _values(parameter, *(["kernel_size"] if square else ["kernel_h", "kernel_w"])):
        message = "a kernel size is missing or 0, expected 1 or more"
        yield _breach("kernel-sizes", layer, message)


def strides_and_pads(layer: Layer) -> Iterator[Finding]:
    """stride, or stride_h and stride_w, all above 0; pad, or pad_h and pad_w."""
    if layer.type not in WINDOWED:
        return
    parameter = _parameter(layer)
    for name in ("stride", "pad"):
        sides = (f"{name}_h", f"{name}_w")
        if _given(parameter, name) and _given(parameter, *sides):
            message = f"{name} beside {sides[0]} and {sides[1]}, expected one of the two"
            yield _breach("strides-and-pads", layer, message, name)
    given = [name for name in ("stride", "stride_h", "stride_w") if _given(parameter, name)]
    if 0 in _values(parameter, *given):
        yield _breach("strides-and-pads", layer, "a stride is 0, expected 1 or more", "0")


def pooling_windows(layer: Layer) -> Iterator[Finding]:
    """Both sides of what is given by side; pads below the kernel, and none with global_pooling."""
    if layer.type != "Pooling":
        return
    parameter = _parameter(layer)
    for name in ("stride", "pad"):
        if _given(parameter, f"{name}_h") != _given(parameter, f"{name}_w"):
            message = f"one of {name}_h and {name}_w, expected both or none"
            yield _breach("strides-and-pads", layer, message, f"{name}_h")
    kernel = pooling_sides(parameter, "kernel", parameter.kernel_size)
    stride = pooling_sides(parameter, "stride", parameter.stride)
    pad = pooling_sides(parameter, "pad", parameter.pad)
    if parameter.global_pooling:
        if any(pad) or stride != (1, 1):
            message = "pad or stride beside global_pooling, expected pad 0 and stride 1"
            yield _breach("strides-and-pads", layer, message, "global_pooling")
    elif any(pad) and parameter.pool == parameter.STOCHASTIC:
        message = "pad with stochastic pooling, expected pad 0"
        yield _breach("strides-and-pads", layer, message, "pool")
    elif any(pad) and any(p >= k > 0 for p, k in zip(pad, kernel, strict=True)):
        message = f"pad {shown(pad)} with kernel {shown(kernel)}, expected less than the kernel"
        yield _breach("strides-and-pads", layer, message, "pad")


def odd_regions(layer: Layer) -> Iterator[Finding]:
    if layer.type == "LRN" and layer.message.lrn_param.local_size % 2 == 0:
        message = f"local_size {layer.message.lrn_param.local_size}, expected an odd one"
        yield _breach("odd-regions", layer, message)


def coefficients(layer: Layer) -> Iterator[Finding]:
    """One of Eltwise's coeff for each bottom, and only for sums (and maxima, which ignore them)."""
    if layer.type != "Eltwise":
        return
    parameter, bottoms = _parameter(layer), counted(len(layer.bottoms), "bottom")
    given = len(parameter.coeff)
    if given not in (0, len(layer.bottoms)):
        message = f"{given} coeff, expected none or one for each of {bottoms}"
        yield _breach("coefficients", layer, message)
    elif given and parameter.operation == parameter.PROD:
        yield _breach("coefficients", layer, "coeff in a product, expected a sum")


NEVER_IN_PLACE = ("AbsVal", "Flatten", "Reshape", "Split")
CONVOLUTIONS = ("Convolution", "Deconvolution")
WINDOWED = (*CONVOLUTIONS, "Im2col", "Pooling")
OUTPUTS = {
    "Convolution": ("num_output",),
    "Deconvolution": ("num_output",),
    "InnerProduct": ("num_output",),
    "Embed": ("num_output", "input_dim"),
    "LSTM": ("num_output",),
    "RNN": ("num_output",),
}
"""Fields without a default, by layer type."""

PARAMETERS = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Eltwise": "eltwise_param",
    "Embed": "embed_param",
    "Im2col": "convolution_param",
    "LSTM": "recurrent_param",
    "RNN": "recurrent_param",
    "InnerProduct": "inner_product_param",
    "Pooling": "pooling_param",
}

LAYER_RULES: tuple[Callable[[Layer], Iterator[Finding]], ...] = (
    typed_layers,
    named_layers,
    include_or_exclude,
    blob_counts,
    in_place,
    fields_per_blob,
    outputs,
    groups,
    kernel_sizes,
    strides_and_pads,
    pooling_windows,
    odd_regions,
    coefficients,
    param_count,
    fixed_statistics,
    unknown_types,
)


def is_sound(layer: Layer) -> bool:
    """Whether Caffe takes the layer, as long as its bottoms fit."""
    return all(finding.warning for rule in LAYER_RULES for finding in rule(layer))


def _breach(rule: str, layer: Layer, message: str, subject: str = "") -> Finding:
    message = f"layer {layer.name!r}: {message}"
    return Finding(rule, message, layer.location, subject=subject)


def _parameter(layer: Layer) -> Any:
    return getattr(layer.message, PARAMETERS[layer.type])


def _params(message: Any) -> int:
    """In old nets names, multipliers and sharing stand in fields of their own."""
    fields = ("param", "blob_share_mode", "blobs_lr", "weight_decay")
    return max(len(getattr(message, name, ())) for name in fields)


def _values(parameter: Any, *names: str) -> list[int]:
    """The values of fields, some of which are repeated (in ConvolutionParameter)."""
    values: list[int] = []
    for name in names:
        value = getattr(parameter, name)
        values += [value] if isinstance(value, int) else value
    return values


def _given(parameter: Any, *names: str) -> bool:
    return any(field.name in names for field, _ in parameter.ListFields())


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _between(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more"
    return str(least or "none") if least == most else f"{least} to {most}"
