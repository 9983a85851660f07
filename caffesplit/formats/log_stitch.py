"""One run made of the parts that a log has: what a resumed run goes over again counts as it did
it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Generic, TypeVar

from caffesplit.formats.log_records import TrainRow

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
