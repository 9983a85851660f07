"""Which layers of a net a split has made, told by their names, and what each is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ROLES: Mapping[str, str] = {
    "_split1": "fast",
    "_split2": "slow",
    "_split2_extension": "added",
    "_split2_residual_pre": "added",
    "_split2_residual_relu": "added",
    "_split2_residual_post": "added",
    "_split2_skip": "added",
    "_split2_residual_sum": "joined",
    "_split2_skip_sum": "joined",
    "_concat": "joined",
    "_reorder": "joined",
    "_split1_reorder": "joined",
    "_split2_reorder": "joined",
    "_reorder_sum": "joined",
}
"""What follows the base layer's name in those that replace it (`split.forms`) → their role."""


@dataclass(frozen=True)
class Branch:
    """A layer's place in a split: of which layer, and fast, slow, added or joined."""

    origin: str
    role: str


def branches(names: Iterable[str]) -> dict[str, Branch]:
    """The layers among `names` that a split has made, and origins that were split again.

    A layer X was split where there are both X_split1 and X_split2, or what those became.
    """
    present = set(names)
    origins: set[str] = set()
    for name in present:
        origins |= {origin for origin, _ in _readings(name)}
    split = {origin for origin in origins if _is_split(origin, present)}
    found = {}
    for name in present | split:
        readings = [reading for reading in _readings(name) if reading[0] in split]
        if readings:
            origin, suffix = max(readings, key=lambda reading: len(reading[0]))
            found[name] = Branch(origin, ROLES[suffix])
    return found


def _readings(name: str) -> list[tuple[str, str]]:
    """The ways to take a name apart into a layer's name and what a split adds to it."""
    return [
        (start, suffix)
        for suffix in ROLES
        if (start := name.removesuffix(suffix)) not in (name, "")
    ]


def _is_split(origin: str, names: set[str]) -> bool:
    parts = (f"{origin}_split1", f"{origin}_split2")
    return all(
        part in names or any(name.startswith(f"{part}_split") for name in names) for part in parts
    )
