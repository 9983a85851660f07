"""The nodes of a prototxt's lossless syntax tree, and their edits.

Every character of the text belongs to exactly one node, so that `str(tree)` is the text. Nodes
are values: an edit makes new ones along the path to the change and shares all the others.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from itertools import chain, zip_longest
from typing import TypeAlias

from caffesplit.errors import Location, PrototxtError
from caffesplit.formats._lexer import Scanner, Source, quoted, shortened, string_value

_LONE_NEWLINE = re.compile(r"(?<!\r)\n")
_LEAD = re.compile(r"(?:[ \t\r\n\v\f]+|#[^\n\0]*\n)*")
_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Node:
    """What all nodes share: the place in the source, or none for a node that an edit made.

    Two nodes are equal if their texts are, wherever they came from.
    """

    source: Source | None = attribute(default=None, compare=False, repr=False, kw_only=True)
    offset: int = attribute(default=0, compare=False, repr=False, kw_only=True)

    def location(self, path: str = "<text>") -> Location:
        """Line, column and source line; only `path` for a node that an edit made."""
        return self.source.location(self.offset) if self.source else Location(path)

    def _write(self, write: Callable[[str], object]) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        pieces: list[str] = []
        self._write(pieces.append)
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    """A string (of one or several adjacent pieces), a number or an identifier, as written."""

    raw: str

    @property
    def is_string(self) -> bool:
        return self.raw[0] in "\"'"

    @property
    def literal(self) -> str:
        """`raw`, but without the spaces and comments that may follow a minus sign."""
        if not self.raw.startswith("-"):
            return self.raw
        return "-" + Scanner(Source("", self.raw), start=1).token

    def as_bytes(self) -> bytes:
        """The bytes a string stands for: unescaped, its pieces joined.

        Raises:
            PrototxtError: if it is a number or an identifier.
        """
        if not self.is_string:
            raise PrototxtError(
                f"found {quoted(self.raw)}",
                "a string",
                "Write it in double quotes.",
                self.location(),
            )
        return string_value(self.raw)

    def as_string(self) -> str:
        """The text a string stands for; bytes that are not UTF-8 become lone surrogates.

        Raises:
            PrototxtError: if it is a number or an identifier.
        """
        return self.as_bytes().decode("utf-8", "surrogateescape")

    def _with_crlf(self) -> Scalar:
        return replace(self, raw=_crlf(self.raw))

    def _write(self, write: Callable[[str], object]) -> None:
        write(self.raw)


@dataclass(frozen=True, slots=True)
class ListValue(Node):
    """`[a, b]`: the items, and the text before, between and after them, brackets included."""

    items: tuple[Scalar | Message, ...]
    gaps: tuple[str, ...]

    def _with_crlf(self) -> ListValue:
        items = tuple(item._with_crlf() for item in self.items)
        return replace(self, items=items, gaps=tuple(map(_crlf, self.gaps)))

    def _write(self, write: Callable[[str], object]) -> None:
        write(self.gaps[0])
        for item, gap in zip(self.items, self.gaps[1:], strict=True):
            item._write(write)
            write(gap)


@dataclass(frozen=True, slots=True)
class Field(Node):
    """One `name: value` of a message.

    Attributes:
        name: as written: an identifier, or `[an.extension]`.
        value: a scalar, a message or a list.
        lead: blank lines, comments and indentation in front of the name.
        joint: what stands between name and value: the colon, if there is one, and spaces.
        trail: the rest of the line behind the value: a separator, a comment, the line's end.
    """

    name: str
    value: Value
    lead: str = ""
    joint: str = ": "
    trail: str = ""

    def as_message(self) -> Message:
        """The value, which has to be a message.

        Raises:
            PrototxtError: if it is a scalar or a list.
        """
        if not isinstance(self.value, Message):
            raise PrototxtError(
                f"found {quoted(self.name)} with a value of its own",
                "a message",
                f"Write `{shortened(self.name)} {{ ... }}`.",
                self.location(),
            )
        return self.value

    def as_string(self) -> str:
        """The value, which has to be a string; see `Scalar.as_string`.

        Raises:
            PrototxtError: if it is anything else.
        """
        if not isinstance(self.value, Scalar):
            raise PrototxtError(
                f"found {quoted(self.name)} with fields or a list",
                "a string",
                f'Write `{shortened(self.name)}: "..."`.',
                self.location(),
            )
        return self.value.as_string()

    def with_value(self, value: Value) -> Field:
        """This field with another value; a scalar gets its colon."""
        colon = ":" in self.joint or isinstance(value, Message)
        return replace(self, value=value, joint=self.joint if colon else ": ")

    def with_lead(self, lead: str) -> Field:
        """This field with other comments, blank lines and indentation in front of it.

        Raises:
            ValueError: if `lead` is not just that, or ends within a comment.
        """
        if not _LEAD.fullmatch(lead):
            raise ValueError(f"{lead!r} is not made of spaces and whole-line comments")
        return replace(self, lead=lead)

    def _with_crlf(self) -> Field:
        lead, joint, trail = map(_crlf, (self.lead, self.joint, self.trail))
        return replace(self, value=self.value._with_crlf(), lead=lead, joint=joint, trail=trail)

    def _write(self, write: Callable[[str], object]) -> None:
        write(self.lead)
        write(self.name)
        write(self.joint)
        self.value._write(write)
        write(self.trail)


@dataclass(frozen=True, slots=True)
class Message(Node):
    """Fields between braces, or the whole text (then `close` is empty).

    Attributes:
        fields: in the text's order.
        open: `{` or `<` with the rest of its line; a byte order mark or nothing for a whole text.
        tail: comments, blank lines and indentation behind the last field.
        close: `}` or `>`, or nothing.
    """

    fields: tuple[Field, ...]
    open: str = ""
    tail: str = ""
    close: str = ""

    def all(self, name: str) -> tuple[Field, ...]:
        """The fields of that name, in the text's order."""
        return tuple(field for field in self.fields if field.name == name)

    def get(self, name: str) -> Field | None:
        """The last field of that name."""
        return next((field for field in reversed(self.fields) if field.name == name), None)

    @property
    def newline(self) -> str:
        r"""How this text ends its lines: `\r\n` if it does so with the first one, else `\n`."""
        texts = chain((self.open,), map(str, self.fields), (self.tail,))
        first = next((text for text in texts if "\n" in text), "")
        return "\r\n" if first.partition("\n")[0].endswith("\r") else "\n"

    def replaced(self, old: Field, *new: Field) -> Message:
        """This message with `new` in the place of the very field `old`; no `new` deletes it.

        The first new field gets `old`'s lead in front of its own comments (unless it has it
        already), the last one `old`'s trail, so that the text around them stays as it is. Each
        further one starts on a line of its own, unless the whole message stands on one line.
        Deleting works as in `without`.

        Raises:
            ValueError: if `old` is not a field of this message.
        """
        index = next((i for i, field in enumerate(self.fields) if field is old), None)
        if index is None:
            raise ValueError(f"field {old.name!r} is not in this message")
        if not new:
            return self._reduced(lambda field: field is not old)
        placed = self._placed(new, old.lead, old.trail)
        fields = (*self.fields[:index], *placed, *self.fields[index + 1 :])
        return replace(self, fields=_kept_apart(fields))

    def without(self, name: str) -> Message:
        """This message without the fields of that name, and without their comments.

        The comments in front of a text's first field stay: they may be about the whole text.
        """
        return self._reduced(lambda field: field.name != name)

    def appended(self, *new: Field) -> Message:
        """This message with further fields, in the layout of the ones it has.

        The tail of the message stays behind them.
        """
        if not new:
            return self
        if self.fields:
            last = self.fields[-1]
            lead = _indent(last.lead) if self._is_spread else " "
            trail = self.newline if last.trail.endswith("\n") else ""
            if self._ended(last.trail) != last.trail:
                last = replace(last, trail=self._ended(last.trail))
            placed = self._placed(new, lead, trail)
            return replace(self, fields=(*self.fields[:-1], last, *placed))
        if self._is_spread:
            lead = _indent(self.tail) + _INDENT if self.close else ""
            return replace(self, fields=self._placed(new, lead, self.newline))
        return replace(self, fields=self._placed(new, " ", ""), tail=" ")

    def with_field_set(self, name: str, raw: str) -> Message:
        """This message with one scalar set: the last field of that name, or a further one.

        Raises:
            PrototxtError: if `raw` is not the text of a scalar.
        """
        scanner = Scanner(Source(name, raw))
        scalar = scanner.scalar()
        if scanner.kind != "end":
            scanner.unexpected("one value", "Only a single value can be set.")
        old = self.get(name)
        if old is None:
            return self.appended(Field(name, Scalar(scalar)))
        value = Scalar(scalar, source=old.value.source, offset=old.value.offset)
        return self.replaced(old, old.with_value(value))

    def transformed(self, change: Callable[[Field], Field]) -> Message:
        """This message with `change` applied to every field, however deep, inner ones first.

        What `change` gives back as it was keeps its identity. Items of lists are left alone.
        """
        fields = []
        for old in self.fields:
            new = old
            if isinstance(old.value, Message):
                inner = old.value.transformed(change)
                new = old if inner is old.value else old.with_value(inner)
            fields.append(change(new))
        if all(map(operator.is_, fields, self.fields)):
            return self
        return replace(self, fields=tuple(fields))

    def _reduced(self, keep: Callable[[Field], bool]) -> Message:
        """This message with some of its fields, and with the ends of the lines they stand on."""
        kept: list[Field] = []
        for field in self.fields:
            if keep(field):
                kept.append(field)
            elif kept and field.trail.endswith("\n") and not kept[-1].trail.endswith("\n"):
                kept[-1] = replace(kept[-1], trail=kept[-1].trail + self.newline)
        reduced = replace(self, fields=_kept_apart(tuple(kept)))
        is_headed = self.fields and not self.close and not keep(self.fields[0])
        return reduced._headed(_whole_lines(self.fields[0].lead)) if is_headed else reduced

    def _headed(self, lines: str) -> Message:
        """This message with further lines in front of its first field."""
        if not self.fields:
            return replace(self, tail=lines + self.tail)
        first, *others = self.fields
        return replace(self, fields=(replace(first, lead=lines + first.lead), *others))

    @property
    def _is_spread(self) -> bool:
        """Whether the message has lines of its own; a whole text always has."""
        own = chain((self.open, self.tail), (field.lead + field.trail for field in self.fields))
        return not self.close or any("\n" in text for text in own)

    def _ended(self, trail: str) -> str:
        """`trail`, with what it takes for another field to follow."""
        needs_newline = self._is_spread or "#" in trail
        return trail + self.newline if needs_newline and not trail.endswith("\n") else trail

    def _placed(self, new: tuple[Field, ...], lead: str, trail: str) -> tuple[Field, ...]:
        """`new` laid out one behind the other: `lead` in front of all, `trail` behind all."""
        if self.newline == "\r\n":
            new = tuple(
                field._with_crlf() if _LONE_NEWLINE.search(str(field)) else field for field in new
            )
        indent = _indent(lead) if self._is_spread else " "
        own_lead = new[0].lead
        has_it = own_lead.strip() and own_lead.startswith(lead)
        first = own_lead if has_it else lead + own_lead.lstrip()
        leads = (first, *(field.lead or indent for field in new[1:]))
        trails = (*(self._ended(field.trail) for field in new[:-1]), trail)
        return tuple(
            replace(field, lead=lead, trail=trail)
            for field, lead, trail in zip(new, leads, trails, strict=True)
        )

    def _with_crlf(self) -> Message:
        fields = tuple(field._with_crlf() for field in self.fields)
        return replace(self, fields=fields, open=_crlf(self.open), tail=_crlf(self.tail))

    def _write(self, write: Callable[[str], object]) -> None:
        write(self.open)
        for field in self.fields:
            field._write(write)
        write(self.tail)
        write(self.close)


Value: TypeAlias = Scalar | Message | ListValue


def _kept_apart(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    """The fields, with a space where an edit left a value running into the next name.

    Nothing need stand behind a string or a brace (`a: "x"b: 1`), but behind a number it must.
    """
    return tuple(
        replace(field, trail=" ") if _runs_into(field, follower) else field
        for field, follower in zip_longest(fields, fields[1:])
    )


def _runs_into(field: Field, follower: Field | None) -> bool:
    if follower is None or field.trail or follower.lead:
        return False
    return str(field)[-1] not in "\"'}>]"


def _indent(lead: str) -> str:
    return lead.rpartition("\n")[2]


def _whole_lines(lead: str) -> str:
    return lead.removesuffix(_indent(lead))


def _crlf(text: str) -> str:
    return _LONE_NEWLINE.sub("\r\n", text)
