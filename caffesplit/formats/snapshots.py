"""The snapshots of a training run, by the names Caffe gives them.

Solver::SnapshotFilename (src/caffe/solver.cpp): `PREFIX_iter_N.caffemodel` or `.caffemodel.h5`;
Caffe v0.9999 wrote no extension, NVCaffe puts test scores behind N (`_score0_0.76`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from caffesplit.errors import SnapshotError

SUFFIX = re.compile(r"_iter_(\d+)((?:_score\d+_[^_]+)*)(\.caffemodel|\.caffemodel\.h5|)")

PREFERENCE = (".caffemodel", "", ".caffemodel.h5")
"""Of two files of one iteration, the one that comes first here is taken."""

MAX_LISTED = 10
"""Iterations that a message lists one by one."""


@dataclass(frozen=True)
class Snapshot:
    """The net's weights at an iteration."""

    iteration: int
    path: Path


def find(prefix: Path | str) -> tuple[Snapshot, ...]:
    """The snapshots with a solver's `snapshot_prefix`, one per iteration, in their order."""
    folder, stem = os.path.split(prefix)
    found: dict[int, tuple[int, Path]] = {}
    for path in sorted(Path(folder).glob("*")) if Path(folder).is_dir() else ():
        match = SUFFIX.fullmatch(path.name.removeprefix(stem))
        if not (path.name.startswith(stem) and match and path.is_file()):
            continue
        iteration, rank = int(match[1]), PREFERENCE.index(match[3])
        if iteration not in found or rank < found[iteration][0]:
            found[iteration] = rank, path
    return tuple(Snapshot(iteration, found[iteration][1]) for iteration in sorted(found))


def in_window(snapshots: Sequence[Snapshot], first: int, last: int) -> tuple[Snapshot, ...]:
    """The snapshots with `first` <= iteration <= `last`.

    Raises:
        SnapshotError: if they are fewer than two, which a window needs for a step.
    """
    inside = tuple(one for one in snapshots if first <= one.iteration <= last)
    if len(inside) < 2:
        held = f"only one snapshot, at {inside[0].iteration}" if inside else "no snapshot"
        raise SnapshotError(
            f"window {first}:{last} holds {held}",
            "at least two",
            f"There are {describe([one.iteration for one in snapshots])}.",
        )
    return inside


def describe(iterations: Sequence[int]) -> str:
    """Snapshots' iterations in words, abbreviated where they are many."""
    if not iterations:
        return "none"
    if len(iterations) <= MAX_LISTED:
        return "snapshots at " + ", ".join(map(str, iterations))
    steps = {later - earlier for earlier, later in pairwise(iterations)}
    every = f", every {steps.pop()}" if len(steps) == 1 else ""
    first, second, *_, last = iterations
    return f"snapshots at {first}, {second}, … {last} ({len(iterations)} of them{every})"
