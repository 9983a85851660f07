"""Caffe's random numbers: the Mersenne Twister it draws crops, mirrors and orders from.

With the same `random_seed`, a data layer that stands before all layers with fillers is given the
same numbers as in Caffe. Sources: include/caffe/util/rng.hpp, src/caffe/common.cpp; Boost's
mersenne_twister.hpp and uniform_int_distribution.hpp.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, MutableSequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")

SPAN = 2**32
"""How many different numbers a draw can give."""


class Random:
    """boost::mt19937: 32 bits a draw. Without a seed, another sequence each time."""

    def __init__(self, seed: int | None = None) -> None:
        self._state = np.random.RandomState(
            secrets.randbelow(SPAN) if seed is None else seed % SPAN
        )

    def draw(self) -> int:
        """One number below SPAN; also the seed of another generator (caffe_rng_rand)."""
        return int(self.draws(1)[0])

    def draws(self, count: int) -> NDArray[np.uint32]:
        return self._state.randint(0, SPAN, count, np.uint32)

    def shuffle(self, items: MutableSequence[Any]) -> None:
        """Fisher and Yates's, as caffe::shuffle does it."""
        for last in range(len(items) - 1, 0, -1):
            other = self._below(last + 1)
            items[last], items[other] = items[other], items[last]

    def _below(self, bound: int) -> int:
        """A number below `bound`, all equally likely (boost::uniform_int)."""
        bucket = SPAN // bound
        while (number := self.draw() // bucket) >= bound:
            pass
        return number


def endless(items: MutableSequence[Item], order: Random | None, start: int = 0) -> Iterator[Item]:
    """The items over and over, from `start` on; with an `order`, shuffled before each new round."""
    yield from items[start:]
    while True:
        if order is not None:
            order.shuffle(items)
        yield from items
