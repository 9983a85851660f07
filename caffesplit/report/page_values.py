"""What a report is made of: everything that was read of some experiments, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caffesplit.formats.trainlog import TrainLog
from caffesplit.metric.history import Array
from caffesplit.metric.trajectory import WindowNorms, WindowScores
from caffesplit.net.graph import Net
from caffesplit.net.shapes import Shapes
from caffesplit.split.plan import Plan


@dataclass(frozen=True)
class FoldedBlock:
    """A block that became one layer, and how far that layer is from it."""

    name: str
    type: str
    layers: tuple[str, ...]
    before: int
    """Values in the block's blobs; `after` those in the one layer's."""
    after: int
    deviation: float
    """Relative, measured on random input."""


@dataclass(frozen=True)
class FoldRecord:
    """What a fold.json tells."""

    blocks: tuple[FoldedBlock, ...]
    left: tuple[tuple[str, str], ...]
    """Layers that stayed, each with the reason."""
    source: str
    """The weights that were folded."""


@dataclass(frozen=True)
class SplitRecord:
    """What a split.json tells."""

    plan: Plan
    settings: Mapping[str, str]
    """How the split was carried out, by name, as text."""
    base: str
    """The experiment it was derived from: its name in the report or, outside it, its path."""
    in_report: bool


@dataclass(frozen=True, eq=False)
class Subject:
    """One experiment, as far as it could be read; `gaps` says why a part is None or empty."""

    name: str
    path: str
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Part (net, log, snapshots, split, fold) → why it is not here."""
    damaged: frozenset[str] = frozenset()
    """Those of the gaps that are there, but cannot be read."""
    log: TrainLog | None = None
    solver: Any = None
    """SolverParameter."""
    net: Net | None = None
    shapes: Shapes | None = None
    split: SplitRecord | None = None
    fold: FoldRecord | None = None
    snapshots: tuple[int, ...] = ()
    scores: tuple[WindowScores, ...] = ()
    norms: tuple[WindowNorms, ...] = ()
    zeros: Mapping[str, int] = field(default_factory=dict)
    """Layer → how many of its kernels are all zero in the last snapshot."""
    kernels: Mapping[str, Array] = field(default_factory=dict)
    """Layer → its weights (N, C/G, KH, KW) in the last snapshot."""

    @property
    def last_iteration(self) -> int:
        """The last that the log has a row of; 0 without a log."""
        if self.log is None:
            return 0
        train, test = self.log.train[-1:], self.log.test[-1:]
        return max([*(row.iteration for row in train), *(row.iteration for row in test)])

    @property
    def readable(self) -> bool:
        """Whether anything of it is known."""
        return any((self.log, self.net, self.split, self.fold, self.solver))


@dataclass(frozen=True)
class Report:
    """Experiments side by side, in generation order."""

    subjects: tuple[Subject, ...]
    metric: str | None = None
    """The test output that is compared; None for the accuracy."""
