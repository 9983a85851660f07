"""What the page says in words and rows: plain values that the templates only arrange."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffesplit.errors import listed
from caffesplit.report.page_scores import ScoredWindow, number, scored_windows
from caffesplit.report.page_summary import Lineage, SummaryRow
from caffesplit.report.page_values import FoldRecord, SplitRecord, Subject
from caffesplit.report.runs import Score
from caffesplit.report.tables import MISSING

CONTROLS_NOTE = (
    "Controls are of the same generation: the net trained on as it is, and nets whose layers were "
    "split at random; of several, their mean. A split by TPM is worth what it is over them."
)


MAX_NAMES = 3
"""Of layers that the table of results lists."""


@dataclass(frozen=True)
class Columns:
    """The head of the table of results, and which of its columns say something."""

    metric: str
    baseline: bool
    trained_on: bool
    random: bool


@dataclass(frozen=True)
class ResultRow:
    """A row of the table of results, as text."""

    subject: Subject
    net: str
    what: str
    final: str
    best: str
    best_at: str
    over_baseline: str
    over_trained_on: str
    over_random: str
    leads: bool


@dataclass(frozen=True)
class PlanRow:
    """A layer of a split plan, as text."""

    name: str
    method: str
    partition: str
    fast: str
    slow: str
    tpm_fast: str
    tpm_slow: str


@dataclass(frozen=True)
class SplitPart:
    """A split plan: a row per layer, and how the split was carried out, by name."""

    rows: tuple[PlanRow, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FoldRow:
    """A folded block, as text."""

    name: str
    type: str
    layers: str
    parameters: str
    deviation: str


@dataclass(frozen=True)
class FoldPart:
    """A fold: a row per block."""

    blocks: tuple[FoldRow, ...]
    left: tuple[tuple[str, str], ...]
    note: str


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, what it shows in words, and what stands under it."""

    uri: str = ""
    alt: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """A net's drawing as SVG, and what stands under it (or in its place)."""

    svg: str = ""
    caption: str = ""
    same_as: Subject | None = None
    """The experiment whose net, drawn there, this one is too."""


@dataclass(frozen=True)
class Section:
    """All that the page tells of one experiment."""

    subject: Subject
    id: str
    index: int
    what: str
    split: SplitPart | None
    fold: FoldPart | None
    scores: tuple[ScoredWindow, ...]
    no_scores: str
    drawing: Drawing = Drawing()
    kernels: tuple[Picture, ...] = ()


def title(subjects: Sequence[Subject]) -> str:
    """The page's heading."""
    if len(subjects) == 1:
        return f"{subjects[0].name}: training report"
    return f"Training report: {len(subjects)} experiments"


def about(subjects: Sequence[Subject]) -> str:
    """One line under the heading."""
    logs = sum(subject.log is not None for subject in subjects)
    snapshots = sum(len(subject.snapshots) for subject in subjects)
    return f"{_counted(logs, 'log')}, {_counted(snapshots, 'snapshot')}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def columns(rows: Sequence[SummaryRow], metric: str | None) -> Columns:
    outputs = {row.result.metric for row in rows if row.result.metric}
    return Columns(
        outputs.pop().capitalize() if len(outputs) == 1 else metric or "Accuracy",
        any(row.over_baseline is not None for row in rows),
        any(row.over_trained_on is not None for row in rows),
        any(row.over_random is not None for row in rows),
    )


def result_rows(rows: Sequence[SummaryRow]) -> tuple[ResultRow, ...]:
    """The table of results."""
    return tuple(
        ResultRow(
            row.subject,
            row.result.net.removeprefix(row.subject.name).strip(),
            what_it_is(row.subject, row.lineage),
            _score(row.result.final),
            _score(row.result.best),
            f"{row.result.best.iteration:,}" if row.result.best else MISSING,
            _signed(row.over_baseline),
            _signed(row.over_trained_on),
            _signed(row.over_random),
            row.leads,
        )
        for row in rows
    )


def what_it_is(subject: Subject, lineage: Lineage) -> str:
    """An experiment's origin in a few words."""
    split = subject.split
    if split is None:
        return "Folded net" if lineage.kind == "folded" else "Baseline"
    base = split.base if split.in_report else split.base.rpartition("/")[2]
    if lineage.kind == "trained on":
        return f"Control: {base} trained on"
    names = [layer.name for layer in split.plan.layers]
    layers = f"{len(names)} layers" if len(names) > MAX_NAMES else ", ".join(names)
    if lineage.kind == "random split":
        return f"Control: {base} with {layers} split at random"
    return f"{base} with {layers} split"


def noise(rows: Sequence[SummaryRow]) -> str:
    """What a difference has to exceed, where accuracies and the number of test images are known."""
    values = [row.result.final.value for row in rows if row.result.final is not None]
    sizes = {_test_images(row.subject) for row in rows}
    accuracies = all(
        row.result.metric is not None and "acc" in row.result.metric.lower() for row in rows
    )
    if len(values) < 2 or len(sizes) != 1 or not accuracies:
        return ""
    (size,) = sizes
    if not size or not all(0 < value < 1 for value in values):
        return ""
    mean = sum(values) / len(values)
    margin = 2 * math.sqrt(mean * (1 - mean) / size)
    return (
        f"Each row is one training. On {size:,} test images two standard errors of an accuracy "
        f"are {margin:.2g}: read smaller differences as noise."
    )


def _test_images(subject: Subject) -> int | None:
    """How many images a test of the first test net takes; None where the files do not tell."""
    if subject.solver is None or subject.net is None or len(subject.solver.test_iter) != 1:
        return None
    batches = {
        layer.message.data_param.batch_size
        for layer in subject.net.layers
        if layer.type == "Data" and layer.is_in("TEST") and not layer.is_in("TRAIN")
    }
    return int(batches.pop() * subject.solver.test_iter[0]) if len(batches) == 1 else None


def output_label(rows: Sequence[SummaryRow]) -> str:
    """What the chart of test outputs shows, for those who cannot see it."""
    reached = ", ".join(
        f"{row.result.net} {_score(row.result.final)}" for row in rows if row.result.final
    )
    return f"A test output of the runs over the iterations. Final values: {reached}."


def section(subject: Subject, lineage: Lineage, identity: str, index: int) -> Section:
    """An experiment's part of the page, without its pictures."""
    return Section(
        subject,
        identity,
        index,
        what_it_is(subject, lineage),
        _split_part(subject.split) if subject.split else None,
        _fold_part(subject.fold) if subject.fold else None,
        scored_windows(subject),
        _no_scores(subject),
    )


def _split_part(split: SplitRecord) -> SplitPart:
    rows = tuple(
        PlanRow(
            layer.name,
            layer.method,
            layer.partition,
            str(len(layer.fast)),
            str(len(layer.slow)),
            _mean_tpm(layer.tpm, layer.fast),
            _mean_tpm(layer.tpm, layer.slow),
        )
        for layer in split.plan.layers
    )
    first, last = split.plan.window
    facts = [("derived from", split.base), ("window", f"{first:,} to {last:,}")]
    if rows:
        facts += [("snapshots", str(len(split.plan.iterations))), ("seed", str(split.plan.seed))]
        facts += [(name.replace("_", " "), value) for name, value in split.settings.items()]
    return SplitPart(rows, tuple(facts))


def _mean_tpm(tpm: Sequence[float | None], kernels: Sequence[int]) -> str:
    defined = [value for kernel in kernels if tpm and (value := tpm[kernel]) is not None]
    return number(sum(defined) / len(defined)) if defined else MISSING


def _fold_part(fold: FoldRecord) -> FoldPart:
    rows = tuple(
        FoldRow(
            block.name,
            block.type,
            f"{len(block.layers)} layers: {', '.join(block.layers)}",
            f"{block.before:,} → {block.after:,}",
            f"{block.deviation:.1e}",
        )
        for block in fold.blocks
    )
    worst = max((block.deviation for block in fold.blocks), default=0.0)
    note = f"Largest deviation {worst:.1e}, relative, measured on random input"
    return FoldPart(rows, fold.left, f"{note}; folded from {fold.source}." if fold.source else note)


def _no_scores(subject: Subject) -> str:
    if "snapshots" in subject.gaps:
        return f"No TPM: {subject.gaps['snapshots']}."
    if "net" in subject.gaps:
        return f"No TPM: {subject.gaps['net']}."
    return f"No TPM: no window holds two of its snapshots ({listed(subject.snapshots)})."


def _score(score: Score | None) -> str:
    """With the six digits that Caffe prints, or four decimals."""
    if score is None:
        return MISSING
    return f"{score.value:.4f}" if 1e-3 <= abs(score.value) < 1e4 else f"{score.value:.6g}"


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:+.4f}".replace("-", "−")
