"""Tokens and literals of protobuf's text format, as Caffe's own (C++) parser takes them.

Source: the Text Format Language Specification (protobuf.dev) and, where that is silent,
protobuf's io/tokenizer.cc: strings end on their line, `#` starts a comment, one `f` may follow
a float, a leading 0 makes an integer octal.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NoReturn

from caffesplit.errors import Location, PrototxtError

TOKEN = re.compile(
    r"""
    [ \t\r\n\v\f]*
    (?: (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<symbol>[{}<>\[\]:,;-])
      | (?P<number>\.?[0-9][A-Za-z0-9_.]*(?:(?<=[eE])[+-][A-Za-z0-9_.]*)*)
      | (?P<string>["'])
      | (?P<comment>\#[^\n\0]*)
      | (?P<end>\Z)
      | (?P<stray>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
"""Spaces and one token. Some token matches everywhere, so nothing backtracks into the spaces.
What matches as a number need not be one; of a string it is but the opening quote."""

STRING_PART = {
    quote: re.compile(rf"[^{quote}\\\n\0]*(?:(?P<escape>\\[^\n\0])|{quote})") for quote in "\"'"
}
"""Behind an opening quote: what goes up to the next escape, or to the end of the string."""

EXTENSION = re.compile(r"\[[ \t\r\n]*[A-Za-z0-9_][A-Za-z0-9_./%~ \t\r\n-]*\]")
"""The name of an extension, `[a.b]`, or of a message in an Any, `[host/a.b]`."""

INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
FLOAT = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
NOT_FINITE = ("inf", "infinity", "nan")

_ESCAPE = (
    r"\\(?:(?P<letter>[abfnrtv?\\'\"])"
    r"|(?P<octal>[0-7]{1,3})"
    r"|[xX](?P<hex>[0-9a-fA-F]{1,2})"
    r"|u(?P<short>(?![dD][89a-fA-F])[0-9a-fA-F]{4})"
    r"|U(?P<long>(?!0000[dD][89a-fA-F])00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})"
    r"|(?P<bad>.))"
)
_TEXT_ESCAPE = re.compile(_ESCAPE, re.DOTALL)
_BYTES_ESCAPE = re.compile(_ESCAPE.encode(), re.DOTALL)
_LETTERS = dict(zip("abfnrtv?\\'\"", "\a\b\f\n\r\t\v?\\'\"", strict=True))

_UNPRINTABLE = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LONGEST_QUOTATION = 40


@dataclass(frozen=True, eq=False)
class Source:
    """The text that nodes were parsed from; they share it and point into it by offset."""

    path: str
    text: str

    def location(self, offset: int) -> Location:
        """Line, column (both from 1) and source line of the character at `offset`."""
        line = bisect_right(self._starts, offset) - 1
        return Location(
            self.path, line + 1, offset - self._starts[line] + 1, text=self._lines[line]
        )

    @cached_property
    def _lines(self) -> list[str]:
        return printable(self.text).split("\n")

    @cached_property
    def _starts(self) -> Sequence[int]:
        lengths = (len(line) + 1 for line in self._lines[:-1])
        return array("L", accumulate(lengths, initial=0))


class Scanner:
    """A cursor over the tokens of a text: the current one, and the trivia in front of it."""

    def __init__(self, source: Source, start: int = 0) -> None:
        self.source = source
        self.text = source.text
        self.end = start
        self.advance()

    def advance(self) -> None:
        """Go to the next token; the end of the text is one that repeats."""
        self.trivia = self.end
        """Offset of the trivia in front of the current token: where the last one ended."""
        self.kind = "comment"
        while self.kind == "comment":
            match = TOKEN.match(self.text, self.end)
            assert match
            self.kind = match.lastgroup or ""
            self.start, self.end = match.span(self.kind)
        if self.kind == "string":
            self._go_to_closing_quote()
        self.token = self.text[self.start : self.end]

    def take(self, symbols: str) -> bool:
        """Step over the current token if it is one of these symbols."""
        if self.kind != "symbol" or self.token not in symbols:
            return False
        self.advance()
        return True

    def rest_of_line(self) -> str:
        """Cut the rest of the line off the trivia in front of the current token."""
        start = self.trivia
        newline = self.text.find("\n", start, self.start)
        if newline >= 0:
            self.trivia = newline + 1
        elif self.kind == "end":
            self.trivia = self.start
        return self.text[start : self.trivia]

    def scalar(self) -> str:
        """Read the text of one scalar: string pieces, a number, or an identifier."""
        start = self.start
        if self.kind == "string":
            while self.kind == "string":
                self._check_escapes()
                self.advance()
        else:
            negative = self.take("-")
            if self.kind == "number":
                self._check_number()
            elif self.kind != "name" or (negative and self.token.lower() not in NOT_FINITE):
                self.unexpected(
                    "a number" if negative else "a value",
                    "A value is a number, a name like TRAIN, or a text in double quotes.",
                )
            self.advance()
        return self.text[start : self.trivia]

    def unexpected(self, expected: str, remedy: str) -> NoReturn:
        """Fail at the current token."""
        if self.kind == "open string":
            self.fail(
                "found a string that does not end on its line",
                f"a closing {self.token[0]}",
                "Close the string; a line break inside it is written \\n.",
            )
        self.fail(f"found {self._described()}", expected, remedy)

    def fail(self, found: str, expected: str, remedy: str, offset: int | None = None) -> NoReturn:
        """Fail at `offset`, by default at the current token."""
        at = self.source.location(self.start if offset is None else offset)
        raise PrototxtError(found, expected, remedy, at)

    def _described(self) -> str:
        if self.kind == "end":
            return "the end of the text"
        code = ord(self.token[0])
        if 0xDC80 <= code <= 0xDCFF:  # what "surrogateescape" makes of a byte that is not UTF-8
            return f"the byte 0x{code - 0xDC00:02X}"
        if self.kind == "stray" and not 0x20 < code < 0x7F:
            return f"the character U+{code:04X}"
        return quoted(self.token)

    def _go_to_closing_quote(self) -> None:
        part = STRING_PART[self.text[self.start]]
        escape = True
        while escape:
            match = part.match(self.text, self.end)
            if not match:
                self.kind = "open string"
                return
            self.end = match.end()
            escape = match["escape"] is not None

    def _check_number(self) -> None:
        if not INTEGER.fullmatch(self.token) and not FLOAT.fullmatch(self.token):
            self.fail(
                f"found {quoted(self.token)}",
                "a number",
                "Write it as 10, 012 (octal), 0xA (hex), 1.5 or 1e-3.",
            )

    def _check_escapes(self) -> None:
        if "\\" not in self.token:
            return
        for match in _TEXT_ESCAPE.finditer(self.token):
            if match.lastgroup == "bad":
                self.fail(
                    f"found the escape {printable(match[0])}",
                    r"one of \n \t \r \a \b \f \v \\ \' \" \? \ooo \xhh \uhhhh \Uhhhhhhhh",
                    r"Write \\ for a backslash.",
                    self.start + match.start(),
                )


def string_value(raw: str) -> bytes:
    """The bytes that the string pieces of a scalar stand for."""
    scanner = Scanner(Source("", raw))
    pieces = []
    while scanner.kind == "string":
        piece = scanner.token[1:-1].encode("utf-8", "surrogateescape")
        pieces.append(_BYTES_ESCAPE.sub(_unescaped, piece) if b"\\" in piece else piece)
        scanner.advance()
    return b"".join(pieces)


def quote(text: str) -> str:
    r"""A string literal for `text`.

    The bytes of a file that was not UTF-8 (which decoding left as lone surrogates) and control
    characters are written as octal escapes.
    """
    escaped = []
    for char in text:
        if char in '\\"':
            escaped.append("\\" + char)
        elif char == "\n":
            escaped.append("\\n")
        elif _UNPRINTABLE.match(char) or char == "\t":
            octets = char.encode("utf-8", "surrogateescape")
            escaped.append("".join(f"\\{octet:03o}" for octet in octets))
        else:
            escaped.append(char)
    return f'"{"".join(escaped)}"'


def quoted(token: str) -> str:
    """A token for an error message: in quotes, short, safe to print."""
    return shortened(token) if token[0] in "\"'" else f'"{shortened(token)}"'


def shortened(token: str) -> str:
    """A token for an error message: short, safe to print."""
    if len(token) > _LONGEST_QUOTATION:
        token = token[: _LONGEST_QUOTATION - 3] + "..."
    return printable(token)


def printable(text: str) -> str:
    """`text` with a U+FFFD for each character that a terminal cannot show, or would obey.

    Tabs and line ends stay, and so do the columns.
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def _unescaped(match: re.Match[bytes]) -> bytes:
    kind = match.lastgroup
    assert kind is not None
    digits = match[kind].decode("ascii")
    if kind == "letter":
        return _LETTERS[digits].encode()
    if kind == "octal":
        return bytes([int(digits, 8) & 0xFF])
    if kind == "hex":
        return bytes([int(digits, 16)])
    return chr(int(digits, 16)).encode()
