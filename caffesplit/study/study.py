"""What a study compares: bases, chains of splits of them, and their controls."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from caffesplit.split.forms import Setting

CONTROLS = ("longer", "random", "inverse", "scratch")
"""Nets that a chain of splits is compared with, trained for as long:

longer   the base, trained on
random   each generation's layers split in parts of the same sizes, kernels drawn at random
inverse  each generation's layers split with fast and slow swapped
scratch  the last generation's net, trained from its fillers: as the base was, then as each split
"""

RESUME = ("snapshot", "start")
"""How a training that was broken off goes on: from its last solver state, or anew. A solver
state has neither the place in the data nor the random numbers, so the results of the first
depend on where it was broken off."""


@dataclass(frozen=True)
class Base:
    """A net to begin with: one of the zoo's, or an experiment on disk."""

    name: str
    zoo: str | None = None
    """Trained for every seed."""
    experiment: Path | None = None
    trained: bool = False
    """Whether the experiment's own snapshots are the start, for all seeds; otherwise it is
    trained anew for every one."""
    lsuv: bool = False
    """Whether it starts from layer-sequential unit-variance weights."""
    shuffle_labels: float = 0.0
    """Fraction of the training labels that are shuffled, by seed 0 in all runs."""
    assignments: tuple[str, ...] = ()
    """`field=value` for its solver."""


@dataclass(frozen=True)
class Generation:
    """One split of what came before, and its training."""

    window: tuple[int, int]
    layers: tuple[str, ...] | int
    """The layers to split, or how many of the highest entropy."""
    method: str = "residual"
    partition: str = "half"
    start: int | None = None
    """The iteration whose snapshot it starts from [the last in the window]."""
    momentum: bool = False
    setting: Setting = field(default_factory=Setting)
    assignments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chain:
    """Generations, each a split of the one before, the first of the base."""

    name: str
    base: str
    generations: tuple[Generation, ...]
    controls: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """All that a study compares."""

    title: str
    bases: tuple[Base, ...]
    chains: tuple[Chain, ...] = ()
    seeds: tuple[int, ...] = (1,)
    metric: str | None = None
    """The test output that is compared [accuracy]."""
    test_net: int = 0
    """The number of the net it is an output of, where a solver tests several."""
    resume: str = RESUME[0]
    windows: tuple[tuple[int, int], ...] = ()
    """Windows over which the bases' TPM and norms are told."""
    layers: tuple[str, ...] = ()
    """Of these layers only [all]."""

    def base(self, name: str) -> Base:
        return next(base for base in self.bases if base.name == name)
