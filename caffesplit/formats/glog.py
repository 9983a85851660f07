"""The prefix that glog gives each line: `Lmmdd hh:mm:ss.uuuuuu thread file:line] message`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime

MINUTE = r"(?:\d{4})?(?:0[1-9]|1[0-2])[0-3]\d \d\d:\d\d:"
"""Regular expression of a stamp up to the seconds. Since glog 0.6 the year may stand first."""

_STAMP = re.compile(rf"[IWEF]{MINUTE}(?=\d\d\.\d{{6}})")
_THREAD = re.compile(r"[IWEF]\d{4,8} [\d:.]{15} +(\d{1,9}) ")
_PARTS = re.compile(r"([12]\d{3})?(\d{4} [\d:]{6}[\d.]{9})$")
_DAYS_BEFORE_MONTH = tuple(
    date(2001, month, 1).toordinal() - date(2001, 1, 1).toordinal() for month in range(1, 13)
)


@dataclass(frozen=True)
class Stamp:
    """A time stamp, in the local time of the machine that wrote the log."""

    text: str
    """mmdd hh:mm:ss.uuuuuu"""
    year: int | None
    """The stamp's own or, since glog prints none before 0.6, that in the head of the log."""

    def time(self, latest: datetime) -> datetime | None:
        """When that was: without a year, at the last such time up to `latest`. None where no
        year has this day."""
        years = range(latest.year, latest.year - 9, -1) if self.year is None else (self.year,)
        for year in years:
            try:
                found = datetime.strptime(f"{year:04}{self.text}", "%Y%m%d %H:%M:%S.%f")
            except ValueError:  # 29 February of another year.
                continue
            if found <= latest or self.year is not None:
                return found
        return None


def fatal(line: str) -> bool:
    """Whether glog ends the process with this line."""
    return line.startswith("F") and _STAMP.match(line) is not None


def thread(line: str) -> str:
    """The id of the thread that printed this line; empty without glog's prefix."""
    match = _THREAD.match(line)
    return match[1] if match else ""


class Clock:
    """Seconds since a log's first stamp, which names no year.

    A year has passed where the month falls by more than half a year; it was a leap year if it
    had a 29 February. Stamps that merely go back (logs joined by hand) give smaller seconds.
    """

    def __init__(self) -> None:
        self.year: int | None = None
        """What the log's head says."""
        self._first = ""
        self._zero: int | None = None
        self._minute = ""
        self._microseconds = 0
        """At the start of that minute."""
        self._month = 0
        self._days_of_years = 0
        self._leap_day = 0

    @property
    def zero(self) -> Stamp | None:
        """The stamp at second 0; None before there is one."""
        match = _PARTS.search(self._first)
        if match is None:
            return None
        own, text = match.groups()
        return Stamp(text, int(own) if own else self.year)

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
        try:
            return self.at(line[:place], line[place : place + 9])
        except ValueError:
            return math.nan

    def at(self, minute: str, second: str) -> float:
        """Seconds from zero to `second`, as in 07.250000, of a text that ends with a `MINUTE`.

        Raises:
            ValueError: if `second` is no number.
        """
        if minute != self._minute:
            self._minute = minute
            days = self._days(int(minute[-11:-9]), int(minute[-9:-7]))
            minutes = (days * 24 + int(minute[-6:-4])) * 60 + int(minute[-3:-1])
            self._microseconds = minutes * 60_000_000
        now = self._microseconds + int(second.replace(".", "", 1))
        if self._zero is None:
            self._zero, self._first = now, minute + second
        return (now - self._zero) / 1_000_000

    def _days(self, month: int, day: int) -> int:
        if month < self._month - 6:
            self._days_of_years += 365 + self._leap_day
            self._leap_day = 0
        self._month = month
        if (month, day) == (2, 29):
            self._leap_day = 1
        leap_day = self._leap_day if month > 2 else 0
        return self._days_of_years + _DAYS_BEFORE_MONTH[month - 1] + day + leap_day
