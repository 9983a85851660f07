"""Layers that treat each value by itself, whatever its place.

Sources: src/caffe/layers of each type (Caffe 1.0; Clip, Swish since).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

import torch
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import Build, Forward, Setup, Tensors, elementwise


def _relu(setup: Setup) -> Forward:
    slope = setup.message.relu_param.negative_slope
    if slope == 0:
        return elementwise(torch.relu)
    return elementwise(lambda x: functional.leaky_relu(x, slope))


def _prelu(setup: Setup) -> Forward:
    return lambda bottoms, blobs: (functional.prelu(bottoms[0], blobs[0].reshape(-1)),)


def _elu(setup: Setup) -> Forward:
    alpha = setup.message.elu_param.alpha
    return elementwise(lambda x: functional.elu(x, alpha))


def _clip(setup: Setup) -> Forward:
    parameter = setup.message.clip_param
    least, most = parameter.min, parameter.max
    return elementwise(lambda x: x.clamp(least, most))


def _swish(setup: Setup) -> Forward:
    beta = setup.message.swish_param.beta
    return elementwise(lambda x: x * torch.sigmoid(beta * x))


def _threshold(setup: Setup) -> Forward:
    threshold = setup.message.threshold_param.threshold
    return elementwise(lambda x: (x > threshold).to(x.dtype))


def _power(setup: Setup) -> Forward:
    """(shift + scale · x) ^ power."""
    parameter = setup.message.power_param
    power, scale, shift = parameter.power, parameter.scale, parameter.shift
    if power * scale == 0:
        constant = 1.0 if power == 0 else float(torch.tensor(shift).pow(power))
        return elementwise(lambda x: torch.full_like(x, constant))
    if power == 1:
        return elementwise(lambda x: x * scale + shift)
    return elementwise(lambda x: (x * scale + shift).pow(power))


def _exp(setup: Setup) -> Forward:
    """base ^ (shift + scale · x)."""
    parameter = setup.message.exp_param
    rate = _log_base(setup, parameter.base)
    inner, outer = rate * parameter.scale, exp(rate * parameter.shift)
    return elementwise(lambda x: torch.exp(x * inner) * outer)


def _log(setup: Setup) -> Forward:
    """The logarithm of shift + scale · x to the base."""
    parameter = setup.message.log_param
    rate = _log_base(setup, parameter.base)
    if rate == 0:
        raise setup.refuse("base 1", "another", "There is no logarithm to the base 1.")
    scale, shift = parameter.scale, parameter.shift
    return elementwise(lambda x: torch.log(x * scale + shift) / rate)


def _log_base(setup: Setup, base: float) -> float:
    """The natural logarithm of a base; −1 stands for e."""
    if base == -1:
        return 1.0
    if not base > 0:
        raise setup.refuse(f"base {base:g}", "one above 0, or -1 for e")
    return log(base)


def _dropout(setup: Setup) -> Forward:
    """Zero with probability dropout_ratio, the others scaled up; nothing at all in TEST."""
    ratio, generator = setup.message.dropout_param.dropout_ratio, setup.generator
    if setup.phase != "TRAIN":
        return elementwise(lambda x: x)
    if not 0 <= ratio < 1:
        raise setup.refuse(f"dropout_ratio {ratio:g}", "0 or more, and below 1")

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        kept = torch.empty_like(bottoms[0]).bernoulli_(1 - ratio, generator=generator)
        return (bottoms[0] * kept.mul_(1 / (1 - ratio)),)

    return forward


NEURONS: Mapping[str, Build] = {
    "AbsVal": lambda setup: elementwise(torch.abs),
    "BNLL": lambda setup: elementwise(functional.softplus),
    "Clip": _clip,
    "Dropout": _dropout,
    "ELU": _elu,
    "Exp": _exp,
    "Log": _log,
    "Power": _power,
    "PReLU": _prelu,
    "ReLU": _relu,
    "Sigmoid": lambda setup: elementwise(torch.sigmoid),
    "Swish": _swish,
    "TanH": lambda setup: elementwise(torch.tanh),
    "Threshold": _threshold,
}
