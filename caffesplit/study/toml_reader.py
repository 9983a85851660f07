"""Values out of decoded TOML, each checked, with the place of what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from caffesplit.errors import Location, StudyError

LARGEST = 2**63 - 1
"""Of the whole numbers that TOML promises to keep."""

SHOWN = 80
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True)
class Reader:
    """Takes values of the file at `path`. A place is a key with those above it: `bases.a.zoo`.

    Every method raises StudyError for a value that is not what its name says.
    """

    path: str

    def known(self, content: Mapping[str, Any], place: str, known: Sequence[str]) -> None:
        import difflib

        for key in content:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                raise StudyError(
                    f"a key {key!r} in {place or 'the study'}",
                    f"one of {', '.join(known)}",
                    f"Did you mean {close[0]!r}?" if close else "",
                    Location(self.path),
                )

    def name(self, name: str, place: str) -> str:
        """The name, which folders get."""
        if not name.replace("_", "").replace("-", "").isalnum():
            self.refuse(place, f"the name {name!r}", "letters, digits, - and _: folders get it")
        return name

    def window(self, value: Any, place: str) -> tuple[int, int]:
        pair = self.integers(value, place)
        if len(pair) != 2 or not 0 <= pair[0] < pair[1]:
            self.refuse(place, value, "two iterations, the smaller first, as in [40000, 50000]")
        return pair[0], pair[1]

    def integers(self, value: Any, place: str) -> tuple[int, ...]:
        return tuple(self.take(each, place, int) for each in self.take(value, place, list))

    def strings(self, value: Any, place: str) -> tuple[str, ...]:
        return tuple(self.take(each, place, str) for each in self.take(value, place, list))

    def count(self, value: Any, place: str, least: int = 1) -> int:
        if self.take(value, place, int) < least:
            self.refuse(place, value, f"{least} or more")
        return int(value)

    def fraction(self, value: Any, place: str) -> float:
        number = float(self.take(value, place, (int, float)))
        if not 0 <= number <= 1:
            self.refuse(place, value, "a fraction from 0 to 1")
        return number

    def choice(self, value: Any, place: str, known: Sequence[str]) -> str:
        if value not in known:
            self.refuse(place, repr(value), f"one of {', '.join(known)}")
        return str(value)

    def optional(self, content: Mapping[str, Any], place: str, key: str, kind: type) -> Any:
        if key not in content:
            return None
        return self.take(content[key], f"{place}.{key}".lstrip("."), kind)

    def take(self, value: Any, place: str, kind: type | tuple[type, ...]) -> Any:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.refuse(place, repr(value), " or ".join(_TOML_NAMES[each] for each in kinds))
        if isinstance(value, int) and abs(value) > LARGEST:
            self.refuse(place, value, f"a number up to {LARGEST}")
        return value

    def refuse(self, place: str, found: Any, expected: str) -> NoReturn:
        raise StudyError(
            f"{place} is {str(found)[:SHOWN]}",
            expected,
            "Correct the study file.",
            Location(self.path),
        )


_TOML_NAMES: dict[type, str] = {
    dict: "a table",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
