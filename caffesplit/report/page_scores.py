"""TPM and norms for the page: histograms as JSON, tables as rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.metric.trajectory import LayerScores, WindowNorms, WindowScores
from caffesplit.report.page_values import Subject
from caffesplit.report.scores import by_entropy
from caffesplit.report.tables import MISSING

BINS = 10
MAX_HISTOGRAMS = 48
"""Of one window; the table beside them has all layers."""


@dataclass(frozen=True)
class LayerRow:
    """A layer in the table: outputs, weights, TPM, entropy, undefined, norms at both ends."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ScoredWindow:
    """A window as the page tells it."""

    window: str
    label: str
    caption: str
    rows: tuple[LayerRow, ...]


def score_data(subject: Subject) -> list[dict[str, Any]]:
    """The histograms of every window as plain JSON values, highest entropy first."""
    return [
        {
            "random_walk": scored.random_walk,
            "layers": [
                {
                    "name": layer.name,
                    "counts": np.histogram(_defined(layer), BINS, (0, 1))[0].tolist(),
                    "note": _note(layer),
                }
                for layer in by_entropy(scored, BINS)[:MAX_HISTOGRAMS]
            ],
        }
        for scored in subject.scores
    ]


def scored_windows(subject: Subject) -> tuple[ScoredWindow, ...]:
    """The tables of every window, and what stands under its histograms."""
    return tuple(
        _window(subject, scored, norms)
        for scored, norms in zip(subject.scores, subject.norms, strict=True)
    )


def _window(subject: Subject, scored: WindowScores, norms: WindowNorms) -> ScoredWindow:
    first, last = scored.window
    window = f"iterations {first:,} to {last:,}"
    left_out = len(scored.layers) - MAX_HISTOGRAMS
    caption = (
        f"How straight the kernels travelled in {window} ({len(scored.iterations)} snapshots): "
        "kernels by TPM, layer by layer, highest entropy first. The dashed line is the TPM of a "
        f"random walk, {scored.random_walk:.3f}. "
        f"Mean entropy {number(scored.mean_entropy(BINS))}."
    )
    if left_out > 0:
        caption += f" {left_out} further layers are in the table only."
    if len(scored.iterations) == 2:
        caption += " With two snapshots every path is straight: a wider window tells more."
    ends = {layer.name: layer for layer in norms.layers}
    rows = tuple(
        LayerRow(
            layer.name,
            (
                f"{layer.num_output:,}",
                f"{layer.weights:,}",
                number(layer.tpm),
                number(layer.entropy(BINS)),
                str(layer.undefined),
                number(ends[layer.name].start),
                number(ends[layer.name].end),
            ),
        )
        for layer in by_entropy(scored, BINS)
    )
    label = f"Histograms of TPM of {subject.name}, {window}. The table below has the figures."
    return ScoredWindow(window, label, caption, rows)


def _note(layer: LayerScores) -> str:
    notes = []
    if layer.undefined < layer.num_output:
        notes.append(f"entropy {layer.entropy(BINS):.3f}, mean {layer.tpm:.3f}")
    if layer.undefined:
        notes.append(f"{layer.undefined} undefined")
    return ", ".join(notes)


def _defined(layer: LayerScores) -> Any:
    return layer.kernels[~np.isnan(layer.kernels)]


def number(value: float) -> str:
    """In four digits after the point; what is no finite number in words."""
    if math.isnan(value):
        return MISSING
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"
