"""One run made of the parts that a log has: what a resumed run goes over again counts as it did
it."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from caffesplit.formats.log_records import Event, Record, TestRow, TrainRow

Item = TypeVar("Item")


class Stitch(Generic[Item]):
    """Items in order of their places, from each place on as they were last added."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.superseded: list[Item] = []
        """Items that gave way to later ones."""
        self._places: list[Any] = []

    def add(self, place: Any, item: Item) -> None:
        """Put an item at the end, instead of all that stand at its place or behind it."""
        if self._places and place <= self._places[-1]:
            cut = bisect_left(self._places, place)
            self.superseded += self.items[cut:]
            del self.items[cut:], self._places[cut:]
        self.items.append(item)
        self._places.append(place)

    def __copy__(self) -> Stitch[Item]:
        copied: Stitch[Item] = Stitch()
        copied.items, copied.superseded = self.items[:], self.superseded[:]
        copied._places = self._places[:]
        return copied


class LastRows:
    """Of training rows the last and, where the run has diverged, the first from which on it had."""

    def __init__(self) -> None:
        self.items: list[TrainRow] = []
        self.superseded: list[TrainRow] = []

    def add(self, iteration: int, row: TrainRow) -> None:
        """Put a row at the end, as `Stitch` does."""
        kept, self.items = self.items[:1], [row]
        if row.diverged and kept and kept[0].diverged and kept[0].iteration < iteration:
            self.items = [kept[0], row]


class Records:
    """A log's records as they come in, sorted and stitched.

    Without `training`, the training rows are kept as `LastRows`.
    """

    def __init__(self, training: bool = True) -> None:
        self.train: Stitch[TrainRow] | LastRows = Stitch() if training else LastRows()
        self.test: Stitch[TestRow] = Stitch()
        self.events: list[Event] = []

    def add(self, records: Iterable[Record]) -> None:
        """Take the next records."""
        for record in records:
            if isinstance(record, TrainRow):
                self.train.add(record.iteration, record)
            elif isinstance(record, TestRow):
                self.test.add((record.iteration, record.net), record)
            else:
                self.events.append(record)

    def __copy__(self) -> Records:
        copied = Records()
        copied.train, copied.test = copy.copy(self.train), copy.copy(self.test)
        copied.events = self.events[:]
        return copied
