"""Moving a prototxt's fields into other messages, with their comments, in the text's own layout.

What moves brings its comments along; what stays is not touched, beyond a line end or an
indentation that it needs. Comments of a field that is left out stay, above what follows it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from caffesplit.formats.prototxt import Field, ListValue, Message, Value, parse

_COMMENT = re.compile(r"#[^\r\n]*")
_WORD_END = re.compile(r"[\w.]\Z")


@dataclass(frozen=True)
class Style:
    """A text's layout: what a level is indented by, and how lines end."""

    unit: str = "  "
    newline: str = "\n"


@dataclass(frozen=True)
class Into:
    """A field on its way into the message `group`; `index` tells several of that name apart.

    `alone` says whether the field had its lines for itself.
    """

    group: str
    field: Field
    alone: bool
    index: int = 0


Outcome: TypeAlias = tuple[Field | Into, ...]
"""What becomes of a field: fields in its place, fields in groups, or nothing."""


def style_of(tree: Message) -> Style:
    """The layout of a whole text: that of its first message with lines of its own."""
    for field in tree.fields:
        message = field.value
        if isinstance(message, Message) and message.fields and _line_starts(message)[0]:
            inner, outer = _indent(message.fields[0].lead), _indent(message.tail)
            if inner != outer and inner.startswith(outer):
                return Style(inner.removeprefix(outer), tree.newline)
    return Style(newline=tree.newline)


def stand_alone(message: Message) -> Iterator[bool]:
    """For each field of a message: whether it has its lines for itself."""
    starts = _line_starts(message)
    return (start and end for start, end in pairwise(starts))


def arranged(message: Message, outcomes: Sequence[Outcome], style: Style) -> Message:
    """This message with an outcome in the place of each of its fields.

    A group is appended to the message of its name, if that stays; otherwise it becomes one,
    in the place of its first field.
    """
    groups: defaultdict[tuple[str, int], list[Into]] = defaultdict(list)
    present = set()
    for outcome in outcomes:
        for item in outcome:
            if isinstance(item, Into):
                groups[item.group, item.index].append(item)
            else:
                present.add(item.name)
    writer = _Writer(message, style)
    for old, outcome in zip(message.fields, outcomes, strict=True):
        placed = []
        for item in outcome:
            if not isinstance(item, Into):
                placed.append(_extended(item, groups.pop((item.name, 0), ()), style))
            elif item.group not in present and (item.group, item.index) in groups:
                members = groups.pop((item.group, item.index))
                placed.append(block(item.group, members, style, writer.indent))
        if outcome:
            writer.put(old, placed)
        else:
            writer.leave_out(old)
    return writer.written()


def block(name: str, members: Sequence[Into], style: Style, indent: str = "") -> Field:
    """The message `name` around `members`, on one line if they shared theirs.

    The comments above the first member stand above the message. Its place in the source is that
    of the first member which has one.
    """
    fields = [member.field for member in members]
    first = fields[0]
    if any(member.alone for member in members) or not _fit_one_line(fields):
        headless = [replace(first, lead=""), *fields[1:]]
        inner = _on_lines(headless, indent + style.unit, style)
        message, trail = Message(inner, "{" + style.newline, indent, "}"), style.newline
    else:
        message = Message(_on_one_line(fields), "{", " ", "}")
        trail = "\n" if first.trail.endswith("\n") else ""
    at = next((field for field in fields if field.source), first)
    return Field(name, message, first.lead, " ", trail, source=at.source, offset=at.offset)


def hoisted(field: Field, indent: str, style: Style) -> tuple[Field, ...]:
    """The fields inside a message field, to stand in its place."""
    message = field.as_message()
    starts = _line_starts(message)
    fields = [
        replace(
            inner,
            lead=_lead_at(inner.lead, indent, style) if start else inner.lead,
            value=_value_at(inner.value, indent),
        )
        for inner, start in zip(message.fields, starts, strict=False)
    ]
    if fields:
        above = comment_lines(field.joint + message.open, indent, style)
        own = fields[0].lead if starts[0] else _indent(field.lead)
        fields[0] = replace(fields[0], lead=_whole_lines(field.lead) + above + own)
        below = comment_lines(message.tail + field.trail, indent, style)
        trail = fields[-1].trail
        if (below or field.trail.endswith("\n")) and not trail.endswith("\n"):
            trail += style.newline
        fields[-1] = replace(fields[-1], trail=trail + below)
    return tuple(fields)


def unlisted(message: Message, names: Collection[str], style: Style) -> Message:
    """This message with the lists of these names, `a: [1, 2]`, written as `a: 1 a: 2`."""
    if not any(_is_list(field, names) for field in message.fields):
        return message
    indent = indent_of(message, style)
    outcomes = [
        _items(field, indent, style) if _is_list(field, names) else (field,)
        for field in message.fields
    ]
    return arranged(message, outcomes, style)


def without_comments(field: Field) -> Field:
    """This field, alone on its lines if it was, for comments that are kept elsewhere."""
    newline = "\n" if field.trail.endswith("\n") else ""
    return replace(field, lead=_indent(field.lead), trail=newline)


def comment_lines(text: str, indent: str, style: Style) -> str:
    """The comments between the values of a text, each on a line of its own."""
    return "".join(indent + comment + style.newline for comment in _COMMENT.findall(text))


def indent_of(message: Message, style: Style) -> str:
    """The indentation of a message's fields."""
    starts = _line_starts(message)
    for field, start in zip(message.fields, starts, strict=False):
        if start:
            return _indent(field.lead)
    return _indent(message.tail) + style.unit if message.close and starts[-1] else ""


class _Writer:
    """Puts fields into a message's place one by one, and repairs the lines they stand on."""

    def __init__(self, message: Message, style: Style) -> None:
        self.message, self.style = message, style
        self.indent = indent_of(message, style)
        self.starts = iter(_line_starts(message))
        """Whether the next of the message's own fields, or its tail, started a line."""
        self.at_start = next(self.starts)
        self.starting = self.at_start
        self.fields: list[Field] = []
        self.comments = ""

    def put(self, old: Field, fields: Sequence[Field]) -> None:
        """Put `fields` into the place of `old`."""
        starts, self.starting = self.starting, next(self.starts)
        for number, field in enumerate(fields, 1):
            ends = number == len(fields) and old.trail.endswith("\n")
            is_tight = number > 1 and not starts and not field.lead
            self._append(replace(field, lead=" ") if is_tight else field, starts, ends)
            starts = self.at_start

    def leave_out(self, old: Field) -> None:
        """Put nothing into the place of `old` but its comments."""
        if "#" in old.lead:
            self.comments += _whole_lines(_lead_at(old.lead, self.indent, self.style))
        inside = old.joint + _trivia_inside(old.value) + old.trail
        self.comments += comment_lines(inside, self.indent, self.style)
        self.put(old, ())

    def _append(self, field: Field, starts: bool, ends: bool) -> None:
        lead = field.lead
        if self.comments or "#" in lead:
            lead = self.comments + (lead if starts or "#" in lead else self.indent)
            self.comments, starts = "", True
        if starts and not self.at_start:
            lead = self.style.newline + lead
        elif self.at_start and not starts:
            lead = self.indent
        elif not starts and not lead and self.fields and _WORD_END.search(str(self.fields[-1])):
            lead = " "
        trail = field.trail
        if (ends or "#" in trail) and not trail.endswith("\n"):
            trail += self.style.newline
        if (lead, trail) != (field.lead, field.trail):
            field = replace(field, lead=lead, trail=trail)
        self.fields.append(field)
        self.at_start = trail.endswith("\n")

    def written(self) -> Message:
        tail = self.comments + self.message.tail
        starts = self.starting and bool(tail or self.message.close)
        if (starts or self.comments) and not self.at_start:
            tail = self.style.newline + tail
        return replace(self.message, fields=tuple(self.fields), tail=tail)


def _line_starts(message: Message) -> list[bool]:
    """Whether each field, and then what follows the last one, starts a line."""
    ends = [field.trail.endswith("\n") for field in message.fields]
    if not message.close:
        return [True, *ends[:-1], True] if ends else [True]
    return [message.open.endswith("\n"), *ends]


def _extended(field: Field, members: Sequence[Into], style: Style) -> Field:
    """A message field with further members."""
    if not members:
        return field
    message = field.as_message()
    fields = [member.field for member in members]
    if "\n" in str(message):
        indent = indent_of(message, style)
        present = list(message.fields)
        if present and not present[-1].trail.endswith("\n"):
            present[-1] = replace(present[-1], trail=present[-1].trail + style.newline)
        longer = replace(message, fields=(*present, *_on_lines(fields, indent, style)))
    elif any("#" in field.lead + field.trail for field in fields):
        outer = _indent(field.lead)
        inner = _on_lines([*message.fields, *fields], outer + style.unit, style)
        longer = replace(message, fields=inner, open=message.open[0] + style.newline, tail=outer)
    else:
        inner = (*message.fields, *_on_one_line(fields))
        longer = replace(message, fields=inner, tail=message.tail or " ")
    return replace(field, value=longer)


def _fit_one_line(fields: Sequence[Field]) -> bool:
    comments = [*(field.lead for field in fields[1:]), *(field.trail for field in fields)]
    return not any("#" in text for text in comments) and not any(
        "\n" in str(field.value) for field in fields
    )


def _on_one_line(fields: Sequence[Field]) -> tuple[Field, ...]:
    return tuple(replace(field, lead=" ", trail="") for field in fields)


def _on_lines(fields: Sequence[Field], indent: str, style: Style) -> tuple[Field, ...]:
    return tuple(
        replace(
            field,
            lead=_lead_at(field.lead, indent, style),
            value=_value_at(field.value, indent),
            trail=field.trail if field.trail.endswith("\n") else field.trail + style.newline,
        )
        for field in fields
    )


def _lead_at(lead: str, indent: str, style: Style) -> str:
    """A lead's comments and blank lines at another indentation."""
    lines = [line.strip() for line in lead.split("\n")[:-1]]
    return "".join((indent + line if line else "") + style.newline for line in lines) + indent


def _value_at(value: Value, indent: str) -> Value:
    """A value with its lines moved so that the last one is indented by `indent`.

    No token spans lines, so that spaces in front of any line mean nothing.
    """
    first, *others = str(value).split("\n")
    if not others:
        return value
    last = others[-1]
    old = last[: len(last) - len(last.lstrip())]
    if old == indent:
        return value
    moved = [
        indent + line.removeprefix(old) if line.strip() and line.startswith(old) else line
        for line in others
    ]
    return parse("_:" + "\n".join([first, *moved])).fields[0].value


def _is_list(field: Field, names: Collection[str]) -> bool:
    return field.name in names and isinstance(field.value, ListValue)


def _items(field: Field, indent: str, style: Style) -> tuple[Field, ...]:
    """The items of a list as fields; comments inside the list come above the first."""
    values = field.value
    assert isinstance(values, ListValue)
    if not values.items:
        return ()
    above = comment_lines(field.joint + "".join(values.gaps), indent, style)
    trail = style.newline if field.trail.endswith("\n") else ""
    other_lead = indent if trail else " "
    items = [
        Field(field.name, value, other_lead, ": ", trail, source=value.source, offset=value.offset)
        for value in values.items
    ]
    items[0] = replace(items[0], lead=_whole_lines(field.lead) + above + _indent(field.lead))
    items[-1] = replace(items[-1], trail=field.trail)
    return tuple(items)


def _trivia_inside(value: Value) -> str:
    """What stands between the scalars in a value, comments among it."""
    if isinstance(value, Message):
        fields = (
            field.lead + field.joint + _trivia_inside(field.value) + field.trail
            for field in value.fields
        )
        return value.open + "".join(fields) + value.tail
    if isinstance(value, ListValue):
        return "".join(value.gaps) + "".join(map(_trivia_inside, value.items))
    return ""


def _indent(lead: str) -> str:
    return lead.rpartition("\n")[2]


def _whole_lines(lead: str) -> str:
    return lead.removesuffix(_indent(lead))
