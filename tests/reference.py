"""Naive oracles in plain Python floats. They share no code with the product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖₂ of two kernels, value by value in float64."""
    total = 0.0
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        total += (y - x) ** 2
    return math.sqrt(total)


def tpm(history: Sequence[np.ndarray]) -> list[float]:
    """TPM of every kernel of a layer; `history` holds its weights (N, ...) at every snapshot."""
    scores = []
    for kernel in range(history[0].shape[0]):
        steps = [weights[kernel] for weights in history]
        path = sum(distance(a, b) for a, b in pairwise(steps))
        scores.append(distance(steps[0], steps[-1]) / path if path > 0 else math.nan)
    return scores


def entropy(counts: Sequence[int]) -> float:
    """Shannon entropy of a histogram in nats."""
    total = sum(counts)
    return -sum(count / total * math.log(count / total) for count in counts if count)
