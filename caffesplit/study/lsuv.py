"""Layer-sequential unit-variance initialisation: every layer puts out values of variance 1.

Source: D. Mishkin, J. Matas, All you need is a good init, ICLR 2016, algorithm 1. Pure: what the
layers put out is asked of whatever runs the net forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from caffesplit.formats.blobs import Array
from caffesplit.metric.history import KERNEL_TYPES
from caffesplit.net.graph import Layer


class Forward(Protocol):
    """A net that is run forward on one batch, layer after layer."""

    def output_variance(self, layer: str, weights: Array) -> float:
        """The variance of what `layer` puts out with these weights, which it then keeps.

        What works in place on its top must not have run yet. Layers are asked for in the net's
        order, each as often as need be.
        """


@dataclass(frozen=True)
class Settings:
    """When a layer is done.

    Attributes:
        tolerance: how far its variance may be from 1.
        trials: how often its weights are scaled, at most.
        seed: of the orthonormal start; None starts from the weights that there are.
    """

    tolerance: float = 0.1
    trials: int = 10
    seed: int | None = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a layer.

    Attributes:
        before, after: variance of its output with the weights it started from, and at the end.
        trials: how often its weights were scaled.
        scale: by what, in all.
        weights: its new ones; None if it keeps those it had.
        problem: why it does, or why its variance is not 1; empty if all is well.
    """

    layer: str
    before: float
    after: float
    trials: int
    scale: float
    weights: Array | None
    problem: str = ""


def choose(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], Mapping[str, str]]:
    """The layers with weights to initialise, in the net's order; and those left alone, with why."""
    chosen: list[Layer] = []
    left: dict[str, str] = {}
    owners: dict[str, str] = {}
    for layer in layers:
        params = layer.message.param
        shared = [spec.name for spec in params if spec.name]
        if layer.type in KERNEL_TYPES:
            weight = params[0] if params else None
            if weight is not None and weight.name in owners:
                left[layer.name] = f"shares the weights of {owners[weight.name]}"
            elif weight is not None and weight.lr_mult == 0:
                left[layer.name] = "lr_mult is 0"
            else:
                chosen.append(layer)
        for name in shared:
            owners.setdefault(name, layer.name)
    return tuple(chosen), left


def lsuv(
    layers: Sequence[Layer], start: Mapping[str, Array], net: Forward, settings: Settings
) -> Iterator[Outcome]:
    """Initialise the layers one after the other, in the net's order.

    Args:
        layers: as `choose` chooses them.
        start: the weights that `net` has, by layer: (N, C/G, …) of a Convolution, (C, N/G, …) of a
            Deconvolution, (N, C) of an InnerProduct, or (C, N) where it is transposed.
    """
    rng = None if settings.seed is None else np.random.default_rng(settings.seed)
    for layer in layers:
        own = start[layer.name]
        first = own if rng is None else orthonormal(own.shape, _groups(layer), rng)

        def variance(weights: Array, name: str = layer.name) -> float:
            return net.output_variance(name, weights)

        yield _initialised(layer.name, own, first, variance, settings)


def orthonormal(shape: Sequence[int], groups: int, rng: np.random.Generator) -> Array:
    """Random weights whose rows, or columns if those are fewer, are orthonormal in each group.

    Uniform over all such matrices: the Q of a Gaussian's QR decomposition, with R's diagonal
    made positive. float32, of `shape`; the first axis is divided into groups.
    """
    rows, columns = shape[0] // groups, math.prod(shape[1:])
    parts = []
    for _ in range(groups):
        gaussian = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(gaussian)
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
        parts.append(q if rows >= columns else q.T)
    return np.concatenate(parts).reshape(shape).astype(np.float32)


def _initialised(
    name: str,
    own: Array,
    first: Array,
    variance: Callable[[Array], float],
    settings: Settings,
) -> Outcome:
    """Scale `first` until the layer's outputs have unit variance; keep `own` where none can."""
    before = variance(first)
    tried = [(1.0, before)]
    while len(tried) <= settings.trials and settings.tolerance < _distance(tried[-1]) < math.inf:
        scale, reached = tried[-1]
        scale /= math.sqrt(reached)
        tried.append((scale, variance(_scaled(first, scale))))
    nearest = min(tried, key=_distance)
    scale, after = nearest
    trials, weights, problem = len(tried) - 1, _scaled(first, scale), ""
    if _distance(nearest) > settings.tolerance:
        problem = _hopeless(before, variance(np.zeros_like(first)))
        if problem:
            variance(own)
            return Outcome(name, before, before, 0, 1.0, None, f"{problem}; left as it was")
        variance(weights)
        problem = f"{after:.4g} is as near to 1 as it came in {trials} trials"
    return Outcome(name, before, after, trials, scale, weights, problem)


def _hopeless(before: float, biases: float) -> str:
    """Why no scale makes the variance 1, if so; it is `biases` without any weights."""
    if not math.isfinite(before):
        return "its output is infinite, or not a number"
    if before == biases:
        return f"its weights make no difference to the variance of its output, {before:.4g}"
    if biases > 1:
        return f"its biases alone make a variance of {biases:.4g}"
    return ""


def _distance(tried: tuple[float, float]) -> float:
    """How far a trial's variance is from 1; infinite where no further scale can follow it."""
    variance = tried[1]
    return abs(variance - 1) if math.isfinite(variance) and variance > 0 else math.inf


def _scaled(weights: Array, scale: float) -> Array:
    with np.errstate(over="ignore"):  # Infinite weights give a variance that is no number.
        return (weights.astype(np.float64) * scale).astype(np.float32)


def _groups(layer: Layer) -> int:
    return 1 if layer.type == "InnerProduct" else layer.group
