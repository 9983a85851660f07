"""What each experiment reached, and by how much it is over its baseline and its controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from caffesplit.errors import LogError
from caffesplit.report.page_values import Report, Subject
from caffesplit.report.runs import Result, Run, results, smaller_is_better

MAX_GENERATIONS = 1000
"""Bounds the way back to the baseline where records name each other in a circle."""


@dataclass(frozen=True)
class Lineage:
    """Where an experiment stands among the others."""

    kind: str
    """baseline, split, trained on, random split, folded."""
    root: str
    """The name of the experiment at the chain's beginning."""
    generation: int


@dataclass(frozen=True)
class SummaryRow:
    """One experiment and test net in the summary table. Differences are None where unknown."""

    subject: Subject
    lineage: Lineage
    result: Result
    over_baseline: float | None
    over_trained_on: float | None
    over_random: float | None
    leads: bool
    """Whether no final value is better."""


def lineages(subjects: Sequence[Subject]) -> dict[str, Lineage]:
    """The lineage of every experiment, by name."""
    by_name = {subject.name: subject for subject in subjects}
    found = {}
    for subject in subjects:
        chain = [subject]
        while (
            (record := chain[-1].split)
            and record.in_report
            and record.base in by_name
            and len(chain) < MAX_GENERATIONS
        ):
            chain.append(by_name[record.base])
        found[subject.name] = Lineage(_kind(subject), chain[-1].name, len(chain) - 1)
    return found


def in_generation_order(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """Baselines first, each followed by what was derived from it, chain by chain."""
    children: dict[str, list[Subject]] = {}
    first = []
    names = {subject.name for subject in subjects}
    for subject in subjects:
        record = subject.split
        if record and record.in_report and record.base in names - {subject.name}:
            children.setdefault(record.base, []).append(subject)
        else:
            first.append(subject)
    ordered: dict[str, Subject] = {}
    waiting = first[::-1]
    while waiting:
        subject = waiting.pop()
        ordered[subject.name] = subject
        waiting += children.pop(subject.name, [])[::-1]
    # Records that name each other in a circle have no beginning.
    return (*ordered.values(), *(each for each in subjects if each.name not in ordered))


def summary(report: Report) -> tuple[SummaryRow, ...]:
    """A row per experiment with a log and per test net."""
    lineage = lineages(report.subjects)
    reached = [
        (subject, net, result)
        for subject in report.subjects
        if subject.log is not None
        for net, result in enumerate(_results(subject, report.metric))
    ]
    finals = {(subject.name, net): _final(result) for subject, net, result in reached}
    controls: dict[tuple[Lineage, int], list[float]] = {}
    for (name, net), value in finals.items():
        if value is not None:
            controls.setdefault((lineage[name], net), []).append(value)
    best = _best([result for _, _, result in reached])

    def row(subject: Subject, net: int, result: Result) -> SummaryRow:
        own, value = lineage[subject.name], finals[subject.name, net]

        def over(kind: str) -> float | None:
            found = controls.get((replace(own, kind=kind), net))
            split = own.kind == "split"
            return value - fmean(found) if value is not None and found and split else None

        root = finals.get((own.root, net)) if own.generation else None
        return SummaryRow(
            subject,
            own,
            result,
            None if value is None or root is None else value - root,
            over("trained on"),
            over("random split"),
            leads=value is not None and value == best,
        )

    return tuple(row(*each) for each in reached)


def _final(result: Result) -> float | None:
    """The final value, if it is a number."""
    value = result.final.value if result.final is not None else math.nan
    return value if math.isfinite(value) else None


def _best(found: Sequence[Result]) -> float | None:
    """The best final value, where several are of one output."""
    values = [value for result in found if (value := _final(result)) is not None]
    outputs = {result.metric for result in found if result.metric}
    if len(values) < 2 or len(outputs) != 1:
        return None
    return min(values) if smaller_is_better(outputs.pop()) else max(values)


def _results(subject: Subject, metric: str | None) -> tuple[Result, ...]:
    assert subject.log is not None
    try:
        return results([Run(subject.name, subject.log)], metric)
    except LogError:  # It has no such output.
        return (Result(subject.name, None, None, None),)


def _kind(subject: Subject) -> str:
    if subject.split is None:
        return "folded" if subject.fold and not subject.log else "baseline"
    layers = subject.split.plan.layers
    if not layers:
        return "trained on"
    if all(layer.partition.startswith("random") for layer in layers):
        return "random split"
    return "split"
