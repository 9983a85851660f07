"""Graphviz: its quoting rules, and its program `dot`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping

from caffesplit.errors import OutputError

MAX_SECONDS = 300
"""`dot` takes seconds for a net of hundreds of layers, and no end of time for ten thousands."""

INSTALL = (
    "Install Graphviz: `apt install graphviz` (Debian, Ubuntu), `brew install graphviz` (macOS), "
    "`conda install graphviz`. Or write FILE.dot, which needs no `dot`, and draw it elsewhere."
)

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(source: str, kind: str) -> bytes:
    """Have `dot` draw a Graphviz source as svg, png, pdf or json.

    Raises:
        OutputError: if there is no `dot` (with the way to install it), or it fails.
    """
    program = shutil.which("dot")
    if program is None:
        raise OutputError("there is no `dot`, the program that lays out nets", "Graphviz", INSTALL)
    try:
        done = subprocess.run(
            [program, f"-T{kind}"],
            input=source.encode(),
            capture_output=True,
            check=False,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise OutputError(
            f"`dot` found no layout in {MAX_SECONDS} seconds",
            "a net of some hundreds of layers",
            "Write FILE.dot, and draw it with another of Graphviz's programs, as `sfdp`.",
        ) from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise OutputError(f"`dot` failed: {lines[-1]}", "a drawing", INSTALL)
    return done.stdout


class Markup(str):
    """A label in Graphviz's own markup, with its angle brackets."""


def attributes(values: Mapping[str, str]) -> str:
    """`[name="value", …]`, or `name=value` for markup."""
    shown = (
        f"{name}={value if isinstance(value, Markup) else quoted(value)}"
        for name, value in values.items()
    )
    return f"[{', '.join(shown)}]"


BACKSLASH = "\u29f5"
"""Stands for a backslash: what two of them give differs among Graphviz's attributes (2.43)."""


def quoted(text: str) -> str:
    """A string for any text."""
    escaped = _drawable(text).replace("&", "&amp;")
    return '"{}"'.format(escaped.replace('"', '\\"').replace("\n", "\\n"))


def markup(text: str) -> str:
    """Text inside of markup."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return _drawable(text)


def _drawable(text: str) -> str:
    """What no XML may hold is shown as the replacement character; a line's end ends a line."""
    return _NOT_XML.sub("\ufffd", text.replace("\r", "\n").replace("\\", BACKSLASH))
