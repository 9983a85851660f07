"""Training rows whose lines stand together, found many at a time.

A log is mostly these: the loss, the outputs and the rate of one iteration, each a line of glog's
with nothing between. One regular expression takes such a row whole, in a third of the time that
its lines take one by one. What it leaves is read line by line, with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from caffesplit.formats.glog import MINUTE

MAX_OUTPUTS = 20
"""A row with more of them is read line by line."""

SAMPLE = 8192
"""Characters, from the first output on, that tell how many outputs the rows have."""

_OUTPUT = " Train net output #"

# Repetitions are bounded, or end at what they must not contain, so that time stays linear.
_NUMBER = r"(-?(?:\d{1,20}\.?\d{,20}(?:e[-+]\d{1,4})?|nan|inf))"
_DEVICE = r"(?:\[[\d.]{1,9}\] )?"
_PREFIX = rf"\nI[^]A-Z\n]*\] {_DEVICE}"

Columns = tuple[list[str], ...]
"""Of several rows: time stamp up to the minute, seconds, thread, iteration, loss; name and value
of each output; rate."""


def split(text: str) -> Iterator[tuple[str, Columns]]:
    """The runs of such rows in a text that starts and ends with a newline, each with the text
    before it, which starts with a newline unless it is empty; at last the text behind them all,
    with empty columns."""
    pattern = _row(_outputs_per_row(text))
    width = pattern.groups + 1
    pieces = pattern.split(text)
    starts = [start for start in range(0, len(pieces), width) if pieces[start] or not start]
    for start, end in pairwise([*starts, len(pieces)]):
        yield pieces[start], tuple(pieces[start + k : end : width] for k in range(1, width))


def _outputs_per_row(text: str) -> int:
    first = max(text.find(_OUTPUT), 0)
    rows = text.count(f"{_OUTPUT}0:", first, first + SAMPLE)
    outputs = text.count(_OUTPUT, first, first + SAMPLE)
    return min(round(outputs / rows), MAX_OUTPUTS) if rows else 0


@lru_cache(MAX_OUTPUTS + 1)
def _row(outputs: int) -> re.Pattern[str]:
    output = (
        rf"{_PREFIX}   {_OUTPUT}\d{{1,9}}: (\S{{1,200}}) = {_NUMBER}"
        r"(?: \(\* \S{1,40} = \S{1,40} loss\))?"
    )
    return re.compile(
        rf"\n(I{MINUTE})(\d\d\.\d{{6}}) +(\d{{1,9}}) [^]A-Z\n]*\] {_DEVICE}"
        r"Iteration (\d{1,10})(?: \([^()\n]{,99}\))?(?:, [\d.]{1,20}/\d{1,9}ep)?, "
        rf"loss = {_NUMBER}{output * outputs}"
        # Other GPUs' threads print the rate, too, and may do so before this one has all outputs.
        rf"\nI\d{{4,8}} [\d:.]{{15}} +\3 [^]A-Z\n]*\] {_DEVICE}"
        rf"Iteration \4, lr = {_NUMBER}(?:,[^\n]*)?(?=\n)"
    )
