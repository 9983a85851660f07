"""What a study came to: mean and spread over seeds, and each split beside its best control."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caffesplit.report.tables import MISSING, Table
from caffesplit.study.stages import Comparison, Stage

CONFIDENCE = 0.95

Values = Mapping[int, float]
"""A net's value for each seed that has one. One that is no number counts as none."""


@dataclass(frozen=True)
class Difference:
    """How much a split is over a control, seed by seed."""

    control: str
    mean: float
    half_width: float | None
    """Of the confidence interval of the mean; None for a single pair."""
    pairs: int


@dataclass(frozen=True)
class Row:
    """A net of the study: its values, and how it compares."""

    name: str
    what: str
    values: Values
    difference: Difference | None


def rows(
    stages: Sequence[Stage],
    comparisons: Sequence[Comparison],
    values: Mapping[str, Values],
    smaller_is_better: bool = False,
) -> tuple[Row, ...]:
    """A row for each stage, in their order; `values` are those of the nets that have been
    trained, by name."""
    values = {name: _numbers(found) for name, found in values.items()}
    compared = {each.split: each.controls for each in comparisons}
    return tuple(
        Row(
            stage.name,
            stage.what,
            values.get(stage.name, {}),
            best_difference(stage.name, compared.get(stage.name, ()), values, smaller_is_better),
        )
        for stage in stages
    )


def best_difference(
    split: str,
    controls: Sequence[str],
    values: Mapping[str, Values],
    smaller_is_better: bool = False,
) -> Difference | None:
    """The difference to the best control: the one that the split is least better than, on average.

    Pairs are a split and a control of the same seed: they share their start, and what that gives
    to both cancels. The interval is Student's for the mean of paired differences. None without
    any pair. Of equal controls it is the first.
    """
    own, sign = values.get(split, {}), -1 if smaller_is_better else 1
    found: list[Difference] = []
    for control in controls:
        other = values.get(control, {})
        pairs = [own[seed] - other[seed] for seed in own if seed in other]
        if pairs:
            found.append(
                Difference(control, statistics.fmean(pairs), half_width(pairs), len(pairs))
            )
    return min(found, key=lambda difference: sign * difference.mean, default=None)


def half_width(sample: Sequence[float], confidence: float = CONFIDENCE) -> float | None:
    """Half the width of Student's confidence interval for the mean; None for one value."""
    if len(sample) < 2:
        return None
    from scipy.stats import t

    quantile = float(t.ppf((1 + confidence) / 2, len(sample) - 1))
    return quantile * statistics.stdev(sample) / math.sqrt(len(sample))


def spread(values: Values) -> tuple[float, float]:
    """Mean and standard deviation (of a sample; 0 of a single value)."""
    sample = list(values.values())
    return statistics.fmean(sample), statistics.stdev(sample) if len(sample) > 1 else 0.0


def table(found: Sequence[Row], label: str) -> Table:
    """Net, mean ± standard deviation, number of seeds, difference to the best control."""
    return Table(
        ("Net", label, "Seeds", "Difference", "95 % interval", "to", "What it is"),
        tuple(
            (
                row.name,
                _spread(row.values),
                len(row.values),
                *_compared(row),
                row.what,
            )
            for row in found
        ),
    )


def _numbers(values: Values) -> Values:
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _spread(values: Values) -> str:
    if not values:
        return MISSING
    mean, deviation = spread(values)
    return f"{mean:.4f} ± {deviation:.4f}" if len(values) > 1 else f"{mean:.4f}"


def _compared(row: Row) -> tuple[str, str, str]:
    difference = row.difference
    if difference is None:
        return "", "", ""
    mean, half = difference.mean, difference.half_width
    interval = MISSING if half is None else f"{mean - half:+.4f} … {mean + half:+.4f}"
    control = difference.control
    if difference.pairs < len(row.values):
        control += f" (in {difference.pairs} of {len(row.values)} seeds)"
    return f"{mean:+.4f}", interval, control
