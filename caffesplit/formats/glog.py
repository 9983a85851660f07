"""The prefix that glog gives each line: `Lmmdd hh:mm:ss.uuuuuu thread file:line] message`."""

from __future__ import annotations

import math
import re
from datetime import date

_STAMP = re.compile(
    # Since glog 0.6 the year may stand before the month.
    r"[IWEF](?:\d{4})?(0[1-9]|1[0-2])([0-3]\d) (\d\d):(\d\d):(?=\d\d\.\d{6})"
)
_DAYS_BEFORE_MONTH = tuple(
    date(2001, month, 1).toordinal() - date(2001, 1, 1).toordinal() for month in range(1, 13)
)


def fatal(line: str) -> bool:
    """Whether glog ends the process with this line."""
    return line.startswith("F") and _STAMP.match(line) is not None


class Clock:
    """Seconds since a log's first stamp, which names no year.

    A year has passed where the month falls by more than half a year; it was a leap year if it
    had a 29 February. Stamps that merely go back (logs joined by hand) give smaller seconds.
    """

    def __init__(self) -> None:
        self._zero: float | None = None
        self._minute = ""
        self._minute_seconds = 0.0
        self._month = 0
        self._days_of_years = 0
        self._leap_day = 0

    def restart(self) -> None:
        """Make the next stamp the zero."""
        self._zero = None

    def seconds(self, line: str) -> float:
        """Seconds from zero to this line's stamp; nan if it has none."""
        # Most lines share their text up to the seconds with the line before.
        place = line.find(".") - 2
        if line[:place] != self._minute:
            match = _STAMP.search(line)
            if match is None:
                return math.nan
            place = match.end()
            self._minute = line[:place]
            month, day, hour, minute = map(int, match.groups())
            self._minute_seconds = (self._days(month, day) * 24 + hour) * 3600.0 + minute * 60
        try:
            seconds = self._minute_seconds + float(line[place : place + 9])
        except ValueError:
            return math.nan
        if self._zero is None:
            self._zero = seconds
        return round(seconds - self._zero, 6)

    def _days(self, month: int, day: int) -> int:
        if month < self._month - 6:
            self._days_of_years += 365 + self._leap_day
            self._leap_day = 0
        self._month = month
        if (month, day) == (2, 29):
            self._leap_day = 1
        leap_day = self._leap_day if month > 2 else 0
        return self._days_of_years + _DAYS_BEFORE_MONTH[month - 1] + day + leap_day
