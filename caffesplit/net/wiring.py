"""Which layer makes and which layers read each value of a net's blobs, over all its phases.

A blob's name is not its value: in-place layers give a name further values, and each phase may
have a layer of its own that makes a blob. Source: Net::AppendTop, Net::AppendBottom and
InsertSplits (src/caffe/net.cpp, src/caffe/util/insert_splits.cpp).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from caffesplit.net.graph import PHASES, Net

MAX_LEVELS, MAX_STAGES = 8, 16
"""Levels and sets of stages that are looked at; a net has one or two of them, if any."""

Top = tuple[int, int]
"""A layer's position in the net, and the position of the top in it; an input has layer −1."""

Value = frozenset[Top]
"""What a bottom reads: one top, or several where each phase has a layer of its own."""


@dataclass(frozen=True)
class Wiring:
    """The values that a net's layers read, by the layers' positions in the net."""

    bottoms: tuple[tuple[Value, ...], ...]
    """For each layer, what each bottom reads; empty where no layer makes it."""
    states: tuple[frozenset[int], ...]
    """For each layer, the states of the net (phases, sets of stages) that have it."""

    def readers(self) -> dict[Top, list[tuple[int, int]]]:
        """For each top, the layers that read it and the position of the bottom that does."""
        found: dict[Top, list[tuple[int, int]]] = defaultdict(list)
        for layer, bottoms in enumerate(self.bottoms):
            for position, value in enumerate(bottoms):
                for top in sorted(value):
                    found[top].append((layer, position))
        return found


def wire(net: Net) -> Wiring:
    """The wiring of a net, its states taken together."""
    bottoms: list[list[set[Top]]] = [[set() for _ in layer.bottoms] for layer in net.layers]
    present: list[set[int]] = [set() for _ in net.layers]
    for number, (phase, level, stages) in enumerate(_states(net)):
        made: dict[str, Top] = {name: (-1, index) for index, name in enumerate(net.inputs)}
        for index, layer in enumerate(net.layers):
            if not layer.is_in(phase, level, stages):
                continue
            present[index].add(number)
            for position, name in enumerate(layer.bottoms):
                if name in made:
                    bottoms[index][position].add(made[name])
            made |= {name: (index, position) for position, name in enumerate(layer.tops)}
    return Wiring(
        tuple(tuple(map(frozenset, values)) for values in bottoms),
        tuple(map(frozenset, present)),
    )


def _states(net: Net) -> list[tuple[str, int, tuple[str, ...]]]:
    """Each phase, at each level and with each set of stages that a layer's rules tell apart."""
    rules = [
        rule
        for layer in net.layers
        for rules in (layer.message.include, layer.message.exclude)
        for rule in rules
    ]
    sets = {tuple(sorted(stages)) for rule in rules for stages in (rule.stage, rule.not_stage)}
    levels = {0, *(rule.min_level for rule in rules if rule.HasField("min_level"))}
    levels |= {rule.max_level for rule in rules if rule.HasField("max_level")}
    return [
        (phase, level, stages)
        for phase in PHASES
        for level in sorted(levels)[:MAX_LEVELS]
        for stages in sorted(sets | {()})[:MAX_STAGES]
    ]
