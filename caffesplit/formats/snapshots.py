"""The snapshots of a training run, by the names Caffe gives them.

Solver::SnapshotFilename (src/caffe/solver.cpp): `PREFIX_iter_N.caffemodel` or `.caffemodel.h5`;
Caffe v0.9999 wrote no extension, NVCaffe puts test scores behind N (`_score0_0.76`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIX = re.compile(r"_iter_(\d+)((?:_score\d+_[^_]+)*)(\.caffemodel|\.caffemodel\.h5|)")

PREFERENCE = (".caffemodel", "", ".caffemodel.h5")
"""Of two files of one iteration, the one that comes first here is taken."""


@dataclass(frozen=True)
class Snapshot:
    """The net's weights at an iteration."""

    iteration: int
    path: Path


def find(prefix: Path | str) -> tuple[Snapshot, ...]:
    """The snapshots with a solver's `snapshot_prefix`, one per iteration, in their order."""
    found: dict[int, tuple[int, Path]] = {}
    for path, match in _named(prefix):
        iteration, rank = int(match[1]), PREFERENCE.index(match[3])
        if iteration not in found or rank < found[iteration][0]:
            found[iteration] = rank, path
    return tuple(Snapshot(iteration, found[iteration][1]) for iteration in sorted(found))


def files(prefix: Path | str) -> dict[Path, int]:
    """All snapshots and solver states with a `snapshot_prefix`, each with its iteration."""
    return {path: int(match[1]) for path, match in _named(prefix, ".solverstate")}


def _named(prefix: Path | str, also: str = ".caffemodel") -> Iterator[tuple[Path, re.Match[str]]]:
    """Snapshots with the prefix, and files that are named like them but for the ending `also`."""
    folder, stem = os.path.split(prefix)
    for path in sorted(Path(folder).glob("*")) if Path(folder).is_dir() else ():
        name = path.name.removeprefix(stem).replace(also, ".caffemodel")
        match = SUFFIX.fullmatch(name)
        if path.name.startswith(stem) and match and path.is_file():
            yield path, match
