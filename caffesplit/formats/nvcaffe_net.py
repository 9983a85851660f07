"""NVCaffe's net texts as BVLC's Caffe reads them: the same net, with what is NVCaffe's alone
translated, or left out where it only tells how to compute.

Source: src/caffe/proto/caffe.proto and BatchNormLayer::LayerSetUp of NVIDIA/caffe v0.15.14 to
v0.17.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from caffesplit.errors import NetError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.prototxt import Field, Message, quote

BATCH_NORM, PARAMETER = "BatchNorm", "batch_norm_param"

ADDED = "Scale layers"
"""What the added layers are counted under, beside the names of fields."""

NET_FIELDS = (
    "default_forward_type",
    "default_backward_type",
    "default_forward_math",
    "default_backward_math",
    "default_conv_algos_override",
    "default_cudnn_math_override",
    "global_grad_scale",
    "global_grad_scale_adaptive",
    "reduce_buckets",
    "eltwise_mem_sharing",
)
FIELDS = {
    "layer": (
        "forward_type",
        "backward_type",
        "forward_math",
        "backward_math",
        "cudnn_math_override",
        "debug",
    ),
    PARAMETER: ("engine",),
    "convolution_param": ("cudnn_convolution_algo_seeker", "conv_algos_override"),
    "data_param": ("threads", "parser_threads", "cache", "precache", "shuffle"),
    "dropout_param": ("engine", "random_seed"),
    "image_data_param": ("threads", "cache", "precache", "dataset_share_per_node"),
    "transform_param": ("use_gpu_transform", "random_seed", "display"),
}
"""By the message they stand in (first those of the net itself): what tells NVCaffe in which
precision, with which algorithm, on how many threads or in which order, and no more."""

SCALE_FIELDS = ("scale_bias", "scale_filler", "bias_filler")
"""Any of them asks for what is a Scale layer in BVLC's Caffe."""

TRUE = ("true", "True", "t", "1")


class Converted(NamedTuple):
    """A net's tree for BVLC's Caffe, and a line on each kind of change."""

    tree: Message
    notes: tuple[str, ...]


def scaled(tree: Message) -> tuple[str, ...]:
    """The names of the BatchNorm layers that ask for scale and bias."""
    return tuple(layer.name for layer, field in _batch_norms(tree) if _asks_for_scale(field))


def layer_names(tree: Message) -> set[str]:
    """The names of all layers."""
    return {layer.name for layer in schema.read(tree, "NetParameter").message.layer}


def convert(tree: Message, names: Mapping[str, str], is_nvcaffes: bool = False) -> Converted:
    """The net for BVLC's Caffe; `names` has the Scale layer's for each BatchNorm that gets one.

    `is_nvcaffes` says that the weights are NVCaffe's. Otherwise the net's fields have to tell,
    and a BatchNorm of BVLC's stays as it is.

    Raises:
        NetError: if a BatchNorm layer that gets a Scale layer has not one top.
        PrototxtError: for a value of the wrong type.
    """
    changes = Counter[str]()
    tree = tree.transformed(lambda field: _stripped(field, changes))
    tree = _without(tree, NET_FIELDS, changes)
    if is_nvcaffes or names or changes:
        replaced = {
            id(field): _converted(layer, field, names, changes)
            for layer, field in _batch_norms(tree)
        }
        fields = (replaced.get(id(field), (field,)) for field in tree.fields)
        tree = replace(tree, fields=tuple(chain.from_iterable(fields)))
    return Converted(tree, tuple(_notes(changes)))


def _notes(changes: Counter[str]) -> Iterator[str]:
    added = changes.pop(ADDED, 0)
    if added:
        yield f"net: BatchNorm layers → BatchNorm and Scale: {added:,}"
    if changes:
        listed = ", ".join(f"{name} ×{count:,}" for name, count in sorted(changes.items()))
        yield f"net: left out {listed}"


def _batch_norms(tree: Message) -> list[tuple[Any, Field]]:
    """Each BatchNorm as a LayerParameter, and its field."""
    typed = schema.read(tree, "NetParameter").message
    pairs = zip(typed.layer, tree.all("layer"), strict=True)
    return [(layer, field) for layer, field in pairs if layer.type == BATCH_NORM]


def _asks_for_scale(field: Field) -> bool:
    parameter = field.as_message().get(PARAMETER)
    if parameter is None:
        return False
    own = parameter.as_message()
    asked = own.get("scale_bias")
    return bool(own.get("scale_filler") or own.get("bias_filler")) or (
        asked is not None and str(asked.value) in TRUE
    )


def _stripped(field: Field, changes: Counter[str]) -> Field:
    """The field without what NVCaffe alone needs in a message of that name."""
    if field.name not in FIELDS or not isinstance(field.value, Message):
        return field
    message = _without(field.value, FIELDS[field.name], changes)
    return field if message is field.value else field.with_value(message)


def _without(message: Message, names: Iterable[str], changes: Counter[str]) -> Message:
    """The message without the fields of those names, which are counted; itself if it has none."""
    for name in names:
        found = message.all(name)
        if found:
            changes[name] += len(found)
            message = message.without(name)
    return message


def _converted(
    layer: Any, field: Field, names: Mapping[str, str], changes: Counter[str]
) -> tuple[Field, ...]:
    """BVLC's BatchNorm, whose three blobs take no `param`, and its Scale, if it has a name."""
    message = _without(field.as_message(), ("param",), changes)
    parameter = message.get(PARAMETER)
    fillers: list[Field] = []
    if parameter is not None:
        own = parameter.as_message()
        fillers += (replace(filler, name="filler") for filler in own.all("scale_filler"))
        fillers += own.all("bias_filler")
        own = _without(own, SCALE_FIELDS, Counter())
        # NVCaffe takes the statistics in TEST alone, BVLC's Caffe so where this field is not set.
        own = _without(own, ("use_global_stats",), changes)
        # NVCaffe adds at least BVLC's default to the variance.
        if layer.batch_norm_param.eps < schema.message_class("BatchNormParameter")().eps:
            own = _without(own, ("eps",), changes)
        message = message.replaced(parameter, *([parameter.with_value(own)] if own.fields else []))
    batch_norm = field.with_value(message)
    if layer.name not in names:
        return (batch_norm,)
    changes[ADDED] += 1
    alone = Message((field,))
    return alone.replaced(
        field, batch_norm, _scale(layer, field, names[layer.name], fillers)
    ).fields


def _scale(layer: Any, field: Field, name: str, fillers: Iterable[Field]) -> Field:
    """The layer that scales and shifts, in place, what the BatchNorm in `field` gives."""
    if len(layer.top) != 1:
        raise NetError(
            f"layer {layer.name!r} with {len(layer.top)} tops",
            "1, as every BatchNorm has",
            "Give it one.",
            field.location(),
        )
    top = quote(layer.top[0])
    scale = prototxt.parse(
        f'layer {{\n  name: {quote(name)}\n  type: "Scale"\n  bottom: {top}\n  top: {top}\n'
        "  scale_param {\n    bias_term: true\n  }\n}\n"
    ).fields[0]
    message = scale.as_message()
    parameter = message.get("scale_param")
    assert parameter is not None
    filled = parameter.with_value(parameter.as_message().appended(*fillers))
    own = field.as_message()
    rules = (*own.all("include"), *own.all("exclude"))
    return scale.with_value(message.replaced(parameter, filled).appended(*rules))
