"""Initial values of blobs: Caffe's fillers.

The distributions are Caffe's; the numbers drawn are not, since Caffe's come from another
generator. Sources: include/caffe/filler.hpp (2018), and LayerSetUp of each type in
src/caffe/layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, prod, sqrt
from typing import Any

import torch
from torch import Generator, Tensor

from caffesplit.errors import NetError
from caffesplit.formats import schema
from caffesplit.net.blobs import Shape
from caffesplit.net.graph import Layer
from caffesplit.net.shape_recurrent import has_static


def initial_blobs(layer: Layer, shapes: Sequence[Shape], generator: Generator) -> list[Tensor]:
    """A layer's blobs of these shapes, float32, filled as its definition says.

    Raises:
        NetError: for a filler that Caffe does not have, or that cannot fill such a blob.
    """
    fillers = FILLERS_OF[layer.type](layer) if layer.type in FILLERS_OF else ()
    filled = [fill(filler, shape, generator, layer) for filler, shape in zip(fillers, shapes)]  # noqa: B905
    return [*filled, *map(torch.zeros, shapes[len(filled) :])]


def fill(filler: Any, shape: Shape, generator: Generator, layer: Layer) -> Tensor:
    """A blob filled by a FillerParameter; `layer` is the one to blame."""
    if filler.type not in FILLERS:
        known = ", ".join(FILLERS)
        raise NetError(f"layer {layer.name!r}: filler {filler.type!r}", known, "", layer.location)
    if filler.sparse != -1 and (filler.type != "gaussian" or filler.sparse < -1):
        message = f"layer {layer.name!r}: `sparse: {filler.sparse}` of a {filler.type} filler"
        raise NetError(message, "0 or more, of a gaussian one", "", layer.location)
    try:
        return FILLERS[filler.type](filler, shape, generator)
    except ValueError as error:
        message = f"layer {layer.name!r}: a {filler.type} filler {error.args[0]}"
        raise NetError(message, error.args[1], "", layer.location) from None


def _constant(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    return torch.full(shape, filler.value, dtype=torch.float32)


def _uniform(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    if filler.min > filler.max:
        raise ValueError(f"from {filler.min:g} to {filler.max:g}", "min not above max")
    return torch.empty(shape).uniform_(filler.min, filler.max, generator=generator)


def _gaussian(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    """With `sparse`, so many inputs of each output are not zero, on average."""
    if not filler.std > 0:
        raise ValueError(f"with std {filler.std:g}", "one above 0")
    blob = torch.empty(shape).normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        kept = min(filler.sparse / (shape[0] if shape else 1), 1.0)
        blob *= torch.empty(shape).bernoulli_(kept, generator=generator)
    return blob


def _positive_unitball(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    """Not negative; the values of each output add up to 1."""
    rows = torch.empty(shape).uniform_(0, 1, generator=generator).reshape(_first(shape), -1)
    return (rows / rows.sum(1, keepdim=True)).reshape(shape)


def _xavier(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    """Glorot and Bengio (2010): variance 1/n."""
    bound = sqrt(3 / _fan(filler, shape))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def _msra(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    """He et al. (2015): variance 2/n."""
    return torch.empty(shape).normal_(0, sqrt(2 / _fan(filler, shape)), generator=generator)


def _bilinear(filler: Any, shape: Shape, generator: Generator) -> Tensor:
    """The kernel of a Deconvolution that interpolates."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"of a blob {shape}", "4 axes, height and width equal")
    factor = ceil(shape[3] / 2)
    centre = (shape[3] - 1) / (2 * factor)
    side = 1 - (torch.arange(shape[3]) / factor - centre).abs()
    return torch.outer(side, side).expand(shape).contiguous()


def _fan(filler: Any, shape: Shape) -> float:
    """The n by which a variance is divided: inputs, outputs or their mean."""
    inputs = prod(shape) // _first(shape)
    outputs = prod(shape) // (shape[1] if len(shape) > 1 else 1)
    return (inputs, outputs, (inputs + outputs) / 2)[filler.variance_norm]


def _first(shape: Shape) -> int:
    return shape[0] if shape else 1


FILLERS: Mapping[str, Callable[[Any, Shape, Generator], Tensor]] = {
    "constant": _constant,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "uniform": _uniform,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}


def _weight_and_bias(name: str) -> Callable[[Layer], Sequence[Any]]:
    def fillers(layer: Layer) -> Sequence[Any]:
        parameter = getattr(layer.message, name)
        return parameter.weight_filler, parameter.bias_filler

    return fillers


def _scale(layer: Layer) -> Sequence[Any]:
    """A second bottom takes the place of the learned scale."""
    parameter = layer.message.scale_param
    own = [] if len(layer.bottoms) > 1 else [_filler_or(parameter, 1)]
    return (*own, parameter.bias_filler)


def _filler_or(parameter: Any, value: float) -> Any:
    """The filler that is given, or else a constant."""
    if parameter.HasField("filler"):
        return parameter.filler
    return schema.message_class("FillerParameter")(value=value)


def _recurrent(layer: Layer) -> Sequence[Any]:
    """In the blobs' order, as `net.blobs` has it."""
    parameter = layer.message.recurrent_param
    weight, bias = parameter.weight_filler, parameter.bias_filler
    static = (weight,) if has_static(layer) else ()
    to_output = (weight, bias) if layer.type == "RNN" else ()
    return (weight, bias, *static, weight, *to_output)


FILLERS_OF: Mapping[str, Callable[[Layer], Sequence[Any]]] = {
    "Bias": lambda layer: (layer.message.bias_param.filler,),
    "Convolution": _weight_and_bias("convolution_param"),
    "Deconvolution": _weight_and_bias("convolution_param"),
    "Embed": _weight_and_bias("embed_param"),
    "InnerProduct": _weight_and_bias("inner_product_param"),
    "LSTM": _recurrent,
    "PReLU": lambda layer: (_filler_or(layer.message.prelu_param, 0.25),),
    "RNN": _recurrent,
    "Scale": _scale,
}
"""Types whose blobs are filled; those of others (BatchNorm, Parameter) are zeros at first."""
