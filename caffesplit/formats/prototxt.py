"""Prototxt, protobuf's text format, as a lossless syntax tree.

The law: `str(parse(text)) == text` for every text that parses. The tree knows the syntax alone,
no field names and no types (those are `schema`'s), so the fields of any fork survive.

    net = load("train_val.prototxt")
    for layer in net.all("layer"):
        print(layer.as_message().get("name").as_string(), layer.location())
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from caffesplit.errors import Location, PrototxtError
from caffesplit.formats._lexer import EXTENSION, Scanner, Source, quote, quoted, shortened
from caffesplit.formats._nodes import Field, ListValue, Message, Node, Scalar, Value

__all__ = [
    "Field",
    "ListValue",
    "Message",
    "Node",
    "Scalar",
    "Value",
    "encode",
    "load",
    "parse",
    "quote",
]

MAX_SIZE = 4 << 20
"""Characters of a text, bytes of a file. A net of a hundred layers has some 50,000; a tree takes up
to a hundred times its text."""

MAX_DEPTH = 100
"""Messages inside each other. Caffe's own need at most 7."""

_BYTE_ORDER_MARK = "\ufeff"
_CLOSING = {"{": "}", "<": ">"}
_LOG_LINE = re.compile(r"^(Log file created at: |[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ )", re.MULTILINE)
_LOG_HEAD = 4096
"""Characters of a text in which such a line tells a log; a shell's own lines may come first."""


def load(path: Path | str) -> Message:
    """Read a prototxt file. Bytes that are not UTF-8 survive in comments and strings.

    Raises:
        PrototxtError: if it is no regular file, empty, too large, binary, or not in text format.
        OSError: if it cannot be read.
    """
    path = Path(path)
    at = Location(str(path))
    if path.exists() and not path.is_file():  # A pipe could block at opening already.
        raise PrototxtError(
            f"found a {'folder' if path.is_dir() else 'device or pipe'}",
            "a file with a net or solver in text format",
            "Check the path; what a pipe gives has to be saved first.",
            at,
        )
    with path.open("rb") as file:
        data = file.read(MAX_SIZE + 1)
    if not data.strip():
        raise PrototxtError(
            "found an empty file",
            "a net or solver in text format",
            "Check the path, or write the file anew.",
            at,
        )
    if len(data) > MAX_SIZE:
        raise _too_large(at)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PrototxtError("found UTF-16 text", "UTF-8", "Save the file as UTF-8.", at)
    if b"\0" in data:
        raise PrototxtError(
            "found a binary file",
            "a net or solver in text format",
            "A prototxt goes here; weights (.caffemodel) have options of their own.",
            Location(str(path), byte=data.index(b"\0")),
        )
    text = data.decode("utf-8", "surrogateescape")
    try:
        return parse(text, str(path))
    except PrototxtError:
        if _LOG_LINE.search(text, 0, _LOG_HEAD):
            raise PrototxtError(
                "found what looks like Caffe's log",
                "a net or solver in text format",
                "`caffesplit log` and `caffesplit plot` read logs.",
                at,
            ) from None
        raise


def encode(tree: Message) -> bytes:
    """The bytes of a prototxt file; of an unedited tree those that it was loaded from."""
    return str(tree).encode("utf-8", "surrogateescape")


def parse(text: str, path: str = "<text>") -> Message:
    """The syntax tree of a whole text; `path` names it in error messages.

    Raises:
        PrototxtError: if it is not in text format, or larger or deeper than the limits.
    """
    if len(text) > MAX_SIZE:
        raise _too_large(Location(path))
    return _Parser(Source(path, text)).whole_text()


class _Parser:
    """Recursive descent; each method leaves the scanner behind what it returns."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.mark = _BYTE_ORDER_MARK if source.text.startswith(_BYTE_ORDER_MARK) else ""
        self.scanner = Scanner(source, start=len(self.mark))
        self.depth = 0

    def whole_text(self) -> Message:
        fields = self.fields()
        if self.scanner.kind != "end":
            self.scanner.unexpected(
                "a field or the end of the text",
                "Remove it, or add the brace that it closes.",
            )
        return Message(tuple(fields), open=self.mark, tail=self.lead(), source=self.source)

    def fields(self) -> list[Field]:
        fields = []
        while self.scanner.kind != "end" and self.scanner.token not in ("}", ">"):
            fields.append(self.field())
        return fields

    def field(self) -> Field:
        scanner = self.scanner
        lead, offset = self.lead(), scanner.start
        name = self.name()
        joint_start = scanner.trivia
        colon = scanner.take(":")
        joint = scanner.text[joint_start : scanner.start]
        value = self.value(name, offset, colon)
        trail_start = scanner.trivia
        scanner.take(",;")
        separator = scanner.text[trail_start : scanner.trivia]
        trail = separator + scanner.rest_of_line()
        return Field(name, value, lead, joint, trail, source=self.source, offset=offset)

    def lead(self) -> str:
        return self.scanner.text[self.scanner.trivia : self.scanner.start]

    def name(self) -> str:
        scanner = self.scanner
        start = scanner.start
        if scanner.token == "[":
            extension = EXTENSION.match(scanner.text, start)
            if not extension:
                self.no_name()
            scanner.end = extension.end()
        elif scanner.kind != "name" and not scanner.token.isdecimal():
            self.no_name()
        scanner.advance()
        return scanner.text[start : scanner.trivia]

    def value(self, name: str, offset: int, colon: bool) -> Value:
        scanner = self.scanner
        if scanner.token in ("{", "<"):
            return self.message()
        if scanner.token == "[":
            return self.list(name, colon)
        if not colon:
            self.refuse_decimal_comma(name, offset)
            short = shortened(name)
            scanner.unexpected(
                f'":" or "{{" after "{short}"', f"Write `{short}: value` or `{short} {{ ... }}`."
            )
        if scanner.kind == "end" or scanner.token in ("}", ">", ",", ";", "]", ":"):
            self.no_value(name, offset)
        start, is_name = scanner.start, scanner.kind == "name"
        raw = scanner.scalar()
        if is_name and scanner.kind == "symbol" and scanner.token in ":{<":
            self.no_value(name, offset)  # the identifier is the name of the next field
        return Scalar(raw, source=self.source, offset=start)

    def message(self) -> Message:
        scanner = self.scanner
        offset, opening = scanner.start, scanner.token
        self.depth += 1
        if self.depth > MAX_DEPTH:
            scanner.fail(
                f"found a message inside {MAX_DEPTH} others",
                f"at most {MAX_DEPTH}",
                "This is not a net or solver that Caffe could use.",
            )
        scanner.advance()
        opening_line = opening + scanner.rest_of_line()
        fields = self.fields()
        tail, closing = self.lead(), scanner.token
        if scanner.kind == "end":
            scanner.fail(
                f"found {quoted(opening)} that is never closed",
                f"{quoted(_CLOSING[opening])} before the end of the text",
                "Close this message, or one inside it that borrows its brace.",
                offset,
            )
        if closing != _CLOSING[opening]:
            line = self.source.location(offset).line
            scanner.unexpected(
                f"{quoted(_CLOSING[opening])} for the {quoted(opening)} in line {line}",
                'Braces come in pairs, "{ }" or "< >".',
            )
        scanner.advance()
        self.depth -= 1
        return Message(
            tuple(fields), opening_line, tail, closing, source=self.source, offset=offset
        )

    def list(self, name: str, colon: bool) -> ListValue:
        scanner = self.scanner
        offset = start = scanner.start
        scanner.advance()
        items: list[Scalar | Message] = []
        gaps: list[str] = []
        more = scanner.token != "]"
        while more:
            gaps.append(scanner.text[start : scanner.start])
            items.append(self.item(name, colon))
            start = scanner.trivia
            more = scanner.take(",")
        if scanner.token != "]":
            scanner.unexpected('"," or "]"', "Commas stand between the values of a list.")
        scanner.advance()
        gaps.append(scanner.text[start : scanner.trivia])
        return ListValue(tuple(items), tuple(gaps), source=self.source, offset=offset)

    def item(self, name: str, colon: bool) -> Scalar | Message:
        scanner = self.scanner
        if scanner.token in ("{", "<"):
            return self.message()
        if not colon:
            scanner.unexpected(
                "a message", f"A list of values has a colon: `{shortened(name)}: [...]`."
            )
        start = scanner.start
        return Scalar(scanner.scalar(), source=self.source, offset=start)

    def no_name(self) -> NoReturn:
        self.scanner.unexpected(
            "a field name", 'Texts stand in double quotes, comments behind a "#".'
        )

    def refuse_decimal_comma(self, name: str, offset: int) -> None:
        if name.isdecimal() and self.scanner.text[offset - 1 : offset] == ",":
            self.scanner.fail(
                f"found a comma in front of {quoted(name)}",
                "a point as the decimal mark",
                f"Write the number as in 0.{shortened(name)}.",
                offset - 1,
            )

    def no_value(self, name: str, offset: int) -> NoReturn:
        self.scanner.fail(
            f"found no value for {quoted(name)}",
            "one behind the colon",
            f"Write `{shortened(name)}: value`, or remove the field.",
            offset,
        )


def _too_large(at: Location) -> PrototxtError:
    return PrototxtError(
        f"found more than {MAX_SIZE >> 20} MiB",
        "a net or solver in text format",
        "Weights belong into a .caffemodel.",
        at,
    )
