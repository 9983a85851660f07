"""Which experiments the arguments of a report mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from caffesplit.errors import Location, NetError
from caffesplit.study.records import FOLD

LOGS = ("*.log", "*.log.gz")
MAIN_LOGS = ("train.log", "train.log.gz")


def members(arguments: Iterable[Path | str]) -> list[Path]:
    """Experiments in the order of the arguments, each once: an experiment's folder or solver, a
    log alone, or a folder somewhere below which there are such folders.

    Raises:
        NetError: if an argument does not exist, or has no experiment in or below it.
    """
    found: dict[Path, Path] = {}
    for argument in map(Path, arguments):
        if not argument.exists():
            raise NetError(
                "no such file or folder",
                "an experiment's folder or solver",
                at=Location(str(argument)),
            )
        inside = list(_below(argument)) if argument.is_dir() else [argument]
        if not inside:
            raise NetError(
                "no experiment in this folder or below it",
                "a solver prototxt, a train.log or a fold.json",
                "Give the folder that holds them.",
                Location(str(argument)),
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def logs_in(folder: Path) -> list[Path]:
    """The folder's train.log; without one, all its logs."""
    logs = sorted((log for pattern in LOGS for log in folder.glob(pattern)), key=natural)
    return [log for log in logs if log.name in MAIN_LOGS] or logs


def _below(folder: Path) -> Iterator[Path]:
    """The folder itself if it has a solver or a fold; else those below it; else its logs'."""
    solvers = any("solver" in path.name.lower() for path in folder.glob("*.prototxt"))
    if solvers or (folder / FOLD).exists():
        yield folder
        return
    entries = sorted(folder.iterdir(), key=natural)
    folders = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    found = [path for entry in folders for path in _below(entry)]
    yield from found or ([folder] if logs_in(folder) else [])


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts derived10 after derived2, and the baseline before all."""
    text = "/".join("" if part == "baseline" else part for part in path.parts)
    pieces = re.findall(r"\d+|\D+", text)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
