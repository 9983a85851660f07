"""A row of a training log while its lines come in, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Callable

from caffesplit.formats.log_records import TestRow, TrainRow


class Block:
    """A row while its lines come in. `net` is None for a training row."""

    __slots__ = ("add", "iteration", "lines", "loss", "net", "outputs", "seconds")

    def __init__(
        self, iteration: int, net: int | None, seconds: float, loss: float | None, line: str
    ) -> None:
        self.iteration, self.net, self.seconds, self.loss = iteration, net, seconds, loss
        self.lines = [line]
        self.outputs: dict[str, float] = {}
        self.add = _namer(self.outputs)

    def row(self, lr: float) -> TrainRow | TestRow | None:
        """The finished row; None for a test that was stopped before it had a result."""
        loss = math.nan if self.loss is None else self.loss
        if self.net is None:
            return TrainRow(self.iteration, self.seconds, lr, loss, self.outputs)
        if self.outputs:
            lines = tuple(self.lines)
            return TestRow(self.iteration, self.seconds, lr, loss, self.outputs, self.net, lines)
        return None


def _namer(outputs: dict[str, float]) -> Callable[[str, float], None]:
    """What adds the next value to `outputs`, and tells the elements of a vector apart."""
    element = 0

    def add(name: str, value: float) -> None:
        nonlocal element
        element = element + 1 if name in outputs else 0
        outputs[f"{name}#{element}" if element else name] = value

    return add


def named(fields: tuple[str, ...]) -> dict[str, float]:
    """The outputs whose names and values are the fields, taking turns."""
    if len(fields) == 2:  # So it is with most nets.
        return {fields[0]: float(fields[1])}
    outputs: dict[str, float] = {}
    add = _namer(outputs)
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        add(name, float(value))
    return outputs


def number(text: str) -> float | None:
    """The number, or None where two lines have run into each other.

    Microsoft's runtimes write nan as 1.#QNAN, -1.#IND or -nan(ind).
    """
    try:
        return float(text)
    except ValueError:
        return math.nan if "#" in text or "nan(" in text else None
