"""What will be split, and how: one frozen value, decided from scores."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffesplit.errors import Location, SplitError, listed
from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.split.partition import partition

METHODS = ("residual", "extension", "skip")


@dataclass(frozen=True)
class LayerPlan:
    """The split of one layer: which kernels are fast, which slow, and the form.

    Only the net tells whether these are all of the layer's kernels: see `check_kernels`.
    """

    name: str
    method: str
    partition: str
    fast: tuple[int, ...]
    slow: tuple[int, ...]
    tpm: tuple[float | None, ...] = ()
    """TPM per kernel, None where undefined; for the reader, not used by the split."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SplitError(
                f"method {self.method!r} for layer {self.name!r}", f"one of {', '.join(METHODS)}"
            )
        if not self.fast or not self.slow:
            raise SplitError(
                f"layer {self.name!r} with {len(self.fast)} fast and {len(self.slow)} slow kernels",
                "at least one of each",
            )
        twice = [kernel for kernel, times in Counter(self.fast + self.slow).items() if times > 1]
        if twice:
            raise SplitError(
                f"layer {self.name!r} with kernel {min(twice)} twice",
                "every kernel of the layer once, fast or slow",
            )
        if self.tpm:
            self.check_kernels(len(self.tpm), "TPM for ")
        # The parts of a grouped convolution keep the order of its groups.
        object.__setattr__(self, "fast", tuple(sorted(self.fast)))
        object.__setattr__(self, "slow", tuple(sorted(self.slow)))

    @property
    def num_output(self) -> int:
        return len(self.fast) + len(self.slow)

    def check_kernels(self, num_output: int, what: str = "", at: Location | None = None) -> None:
        """Raise SplitError unless these are all the kernels of a layer that has so many."""
        planned, own = {*self.fast, *self.slow}, set(range(num_output))
        if planned != own:
            unknown = sorted(planned - own)
            found = f"kernel {unknown[0]}" if unknown else f"no kernel {min(own - planned)}"
            raise SplitError(
                f"a plan with {found} for layer {self.name!r}, with {what}{num_output} kernels",
                f"each from 0 to {num_output - 1} once, fast or slow",
                "Correct the plan, with the numbers of `caffesplit tpm --per-kernel`; if it is of "
                "another net, write one for this net with `caffesplit plan`.",
                at,
            )


@dataclass(frozen=True)
class Plan:
    """The splits of one derived experiment, decided in one window of training."""

    layers: tuple[LayerPlan, ...]
    window: tuple[int, int]
    iterations: tuple[int, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise SplitError(f"layer {doubled[0]!r} planned twice", "each layer once")
        if self.window[0] >= self.window[1]:
            raise SplitError(
                f"window {self.window[0]}:{self.window[1]}", "its start before its end"
            )
        inside = [self.window[0] <= each <= self.window[1] for each in self.iterations]
        if len(self.iterations) < 2 or not all(inside):
            raise SplitError(
                f"iterations {listed(self.iterations)}",
                f"two or more within the window {self.window[0]}:{self.window[1]}",
            )
        if self.seed < 0:
            raise SplitError(f"seed {self.seed}", "0 or more")


def decide(
    scores: WindowScores,
    layers: Sequence[str],
    groups: Mapping[str, int],
    method: str,
    specification: str,
    seed: int = 0,
) -> Plan:
    """The plan that splits `layers` by one method and one partition specification."""
    by_name = {layer.name: layer for layer in scores.layers}
    return Plan(
        tuple(
            _plan_layer(by_name[name], groups.get(name, 1), method, specification, seed)
            for name in layers
        ),
        scores.window,
        scores.iterations,
        seed,
    )


def _plan_layer(
    scores: LayerScores, group: int, method: str, specification: str, seed: int
) -> LayerPlan:
    rng = layer_rng(seed, scores.name, purpose="partition")
    try:
        fast, slow = partition(specification, scores.kernels, rng, group)
    except SplitError as error:
        raise SplitError(
            f"layer {scores.name!r}: {error.found}", error.expected, error.remedy
        ) from error
    tpm = tuple(None if np.isnan(value) else float(value) for value in scores.kernels)
    return LayerPlan(scores.name, method, specification, fast, slow, tpm)


def layer_rng(seed: int, layer: str, purpose: str) -> np.random.Generator:
    """A random stream of its own per layer and purpose: other layers do not change its draws."""
    return np.random.default_rng([seed, zlib.crc32(f"{purpose} {layer}".encode())])
