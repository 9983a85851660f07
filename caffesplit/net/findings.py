"""What rules find: one value per breach, merged over a net's states, and never too many."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from caffesplit.errors import Location

MAX_PER_RULE = 20
"""Findings of one rule that are shown one by one; the rest are counted."""

MAX_CANDIDATES = 5_000
"""Names that a misspelled one is compared with."""

LONGEST_NAME = 100
"""Characters of a name for which a similar one is looked for."""


@dataclass(frozen=True)
class Finding:
    """One breach of a rule, or one thing that only a fork's Caffe may know.

    Attributes:
        rule: the rule's name.
        message: what was found, and what is expected.
        at: where.
        warning: whether Caffe runs the net all the same, or a fork's may.
        subject: what at that place breaks the rule, as a bottom's name.
        states: the states of the net in which it holds; empty if in all that were examined.
        known: the names that `subject` may be a misspelling of.
        count: how many breaches this finding stands for.
    """

    rule: str
    message: str
    at: Location | None = None
    warning: bool = False
    subject: str = ""
    states: tuple[str, ...] = ()
    known: Collection[str] = field(default=(), repr=False, compare=False)
    count: int = 1

    @property
    def suggestion(self) -> str | None:
        """The known name that looks most like the subject, if any does."""
        if len(self.subject) > LONGEST_NAME:
            return None
        names = [name for name in islice(self.known, MAX_CANDIDATES) if len(name) <= LONGEST_NAME]
        return next(iter(difflib.get_close_matches(self.subject, names, n=1)), None)

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        states = f", in {', '.join(self.states)}" if self.states else ""
        suggestion = self.suggestion
        close = f"; did you mean {suggestion}?" if suggestion else ""
        kind = "warning" if self.warning else "error"
        return f"{place}{kind}: {self.message}{states}{close} [{self.rule}]"


def merged(findings: Iterable[Finding], states: Collection[str]) -> list[Finding]:
    """The findings in each state of a net, each once, with those states it holds in.

    `states` are all that were examined.
    """
    kept: dict[tuple[str, Location | None, str], Finding] = {}
    for finding in findings:
        key = (finding.rule, finding.at, finding.subject)
        earlier = kept.get(key)
        held = (earlier.states if earlier else ()) + finding.states
        kept[key] = replace(earlier or finding, states=tuple(dict.fromkeys(held)))
    return [
        replace(finding, states=()) if len(finding.states) == len(states) else finding
        for finding in kept.values()
    ]


def limited(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The first MAX_PER_RULE findings of each rule, and one that counts the rule's others."""
    shown: list[Finding] = []
    total: Counter[tuple[str, bool]] = Counter()
    for finding in findings:
        kind = (finding.rule, finding.warning)
        total[kind] += finding.count
        if total[kind] <= MAX_PER_RULE:
            shown.append(finding)
    for (rule, warning), count in total.items():
        more = count - MAX_PER_RULE
        if more > 0:
            shown.append(Finding(rule, f"and {more:,} more", warning=warning, count=more))
    return tuple(shown)


def counted(count: int, noun: str) -> str:
    """A number of things: 1 error, 2 errors."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def within(findings: Iterable[Finding], phases: Collection[str]) -> tuple[Finding, ...]:
    """The findings that hold in one of the phases in which a net is used."""
    return tuple(
        finding
        for finding in findings
        if not finding.states
        or any(f"phase {phase}" in state for state in finding.states for phase in phases)
    )
