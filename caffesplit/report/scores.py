"""Scores of a window as text: the notebooks' list of layers, highest entropy first."""

from __future__ import annotations

import math

from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.report.tables import MISSING, Table


def by_entropy(scores: WindowScores, bins: int = 10) -> tuple[LayerScores, ...]:
    """The layers, highest entropy first; those without one last."""

    def order(layer: LayerScores) -> float:
        entropy = layer.entropy(bins)
        return math.inf if math.isnan(entropy) else -entropy

    return tuple(sorted(scores.layers, key=order))


def score_table(scores: WindowScores, bins: int = 10) -> Table:
    """A row per layer: name, outputs, weights, layer TPM, entropy, undefined kernels."""
    rows = tuple(
        (
            layer.name,
            layer.num_output,
            layer.weights,
            _number(layer.tpm),
            _number(layer.entropy(bins)),
            layer.undefined,
        )
        for layer in by_entropy(scores, bins)
    )
    return Table(("Layer", "Outputs", "Weights", "TPM", "Entropy", "Undefined"), rows)


def score_text(scores: WindowScores, bins: int = 10) -> str:
    """The mean entropy, the level of a random walk, and the table."""
    first, last = scores.window
    return (
        f"Mean TPM ratio entropy = {scores.mean_entropy(bins):.12g}\n"
        f"window {first}:{last}, {len(scores.iterations)} snapshots, "
        f"random walk TPM = {scores.random_walk:.4f}\n"
        f"{score_table(scores, bins).plain()}"
    )


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4f}"
