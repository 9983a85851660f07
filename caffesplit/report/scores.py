"""Scores of a window as text: the notebooks' list of layers, highest entropy first."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from caffesplit.metric.trajectory import LayerScores, WindowNorms, WindowScores
from caffesplit.report.tables import MISSING, Table

TWO_SNAPSHOTS = "with two snapshots every path is straight; take a wider window\n"


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
    steps = (
        f"{len(scores.iterations)} snapshots ({scores.iterations[0]} to {scores.iterations[-1]})"
    )
    return (
        f"Mean TPM ratio entropy = {scores.mean_entropy(bins):.12g}\n"
        f"window {first}:{last}, {steps}, random walk TPM = {scores.random_walk:.4f}\n"
        f"{TWO_SNAPSHOTS if len(scores.iterations) == 2 else ''}"
        f"{score_table(scores, bins).plain()}"
    )


def kernel_table(scores: WindowScores) -> Table:
    """A row per kernel: layer, channel, TPM."""
    rows = tuple(
        (layer.name, channel, _number(tpm))
        for layer in scores.layers
        for channel, tpm in enumerate(layer.kernels)
    )
    return Table(("Layer", "Kernel", "TPM"), rows)


def score_json(windows: Sequence[WindowScores], bins: int = 10) -> dict[str, Any]:
    """Plain JSON values; null where a value is undefined."""
    return {
        "windows": [
            {
                "window": list(scores.window),
                "iterations": list(scores.iterations),
                "random_walk": scores.random_walk,
                "mean_entropy": _defined(scores.mean_entropy(bins)),
                "layers": [
                    {
                        "name": layer.name,
                        "num_output": layer.num_output,
                        "weights": layer.weights,
                        "tpm": _defined(layer.tpm),
                        "entropy": _defined(layer.entropy(bins)),
                        "undefined": layer.undefined,
                        "kernels": [_defined(tpm) for tpm in layer.kernels],
                    }
                    for layer in by_entropy(scores, bins)
                ],
            }
            for scores in windows
        ]
    }


def score_csv(windows: Sequence[WindowScores], bins: int = 10) -> str:
    """A row per window and layer; empty where a value is undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("start", "end", "layer", "num_output", "weights", "tpm", "entropy", "undefined")
    )
    for scores in windows:
        for layer in by_entropy(scores, bins):
            values = (_defined(layer.tpm), _defined(layer.entropy(bins)), layer.undefined)
            writer.writerow((*scores.window, layer.name, layer.num_output, layer.weights, *values))
    return text.getvalue()


def norm_json(windows: Sequence[WindowNorms]) -> dict[str, Any]:
    """Plain JSON values; null where a norm is no finite number."""
    return {
        "windows": [
            {
                "window": list(norms.window),
                "iterations": list(norms.iterations),
                "layers": [
                    {
                        "name": layer.name,
                        "start": _defined(layer.start),
                        "end": _defined(layer.end),
                    }
                    for layer in norms.layers
                ],
            }
            for norms in windows
        ]
    }


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.4f}"
