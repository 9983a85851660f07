"""Errors of the prototxt reader: their text, for one small file per failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caffesplit.errors import PrototxtError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.prototxt import load, parse

MALFORMED = Path(__file__).parent.parent / "data" / "malformed"
EXPECTED = {
    message.partition(":")[0]: message
    for message in (MALFORMED / "prototxt_errors.txt").read_text("utf-8").strip().split("\n\n")
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_message_names_place_finding_expectation_and_remedy(name, monkeypatch):
    monkeypatch.chdir(MALFORMED)

    with pytest.raises(PrototxtError) as caught:
        schema.read(load(name), "NetParameter")

    assert str(caught.value) == EXPECTED[name]
    assert all((caught.value.found, caught.value.expected, caught.value.remedy, caught.value.at))


def test_every_malformed_prototxt_has_its_message():
    assert {path.name for path in MALFORMED.glob("*.prototxt")} == set(EXPECTED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", 'net:1:4: found "1", expected a string'),
        ("a: [1]", 'net:1:1: found "a" with fields or a list, expected a string'),
        ("a { }", 'net:1:1: found "a" with fields or a list, expected a string'),
    ],
)
def test_what_is_no_string_cannot_be_read_as_one(text, message):
    with pytest.raises(PrototxtError) as caught:
        parse(text, "net").fields[0].as_string()

    assert str(caught.value).splitlines()[0] == message


@pytest.mark.parametrize("text", ["a: 1", "a: [{ }]"])
def test_what_is_no_message_cannot_be_read_as_one(text):
    with pytest.raises(PrototxtError) as caught:
        parse(text, "net").fields[0].as_message()

    assert str(caught.value).splitlines()[0] == (
        'net:1:1: found "a" with a value of its own, expected a message'
    )


def test_a_text_that_is_too_large_is_refused_without_reading_on(tmp_path, monkeypatch):
    monkeypatch.setattr(prototxt, "MAX_SIZE", 2 << 20)
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"# \n" * (1 << 20))

    with pytest.raises(PrototxtError, match=r"net\.prototxt: found more than 2 MiB"):
        load(path)
    with pytest.raises(PrototxtError, match="<text>: found more than 2 MiB"):
        parse(path.read_text())


def test_what_is_no_file_is_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in [
        ("/dev/zero", "device or pipe"),
        (pipe, "device or pipe"),
        (tmp_path, "folder"),
    ]:
        with pytest.raises(PrototxtError) as caught:
            load(path)

        assert str(caught.value) == (
            f"{path}: found a {kind}, expected a file with a net or solver in text format\n"
            "Check the path; what a pipe gives has to be saved first."
        )


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.prototxt")


def test_a_long_line_is_shown_around_the_caret():
    with pytest.raises(PrototxtError) as caught:
        parse("a: 1 " * 100_000 + "a: = " + "a: 1 " * 100_000)

    _, excerpt, caret, _ = str(caught.value).split("\n")
    assert len(excerpt) < 120
    assert excerpt[caret.index("^")] == "="


def test_a_long_token_is_shown_shortened():
    with pytest.raises(PrototxtError) as caught:
        parse("a: 1" + "x" * 3_000_000)

    assert len(str(caught.value)) < 400


def test_nesting_has_a_limit_that_protects_the_stack():
    deep = "a {" * prototxt.MAX_DEPTH + "}" * prototxt.MAX_DEPTH

    assert str(parse(deep)) == deep
    with pytest.raises(PrototxtError, match="inside 100 others"):
        parse("a {" * 1_000_000)
    with pytest.raises(PrototxtError, match="inside 100 others"):
        parse("a [{" * 1_000_000)


SIZE = 200_000
HOSTILE = {
    "comments": "#\n" * SIZE,
    "a comment": "#" * SIZE,
    "comments before a stray character": "# # #\n" * SIZE + "=",
    "spaces": " " * SIZE,
    "open quotes": 'a: "' * SIZE,
    "escapes without an end": 'a: "' + "\\a" * SIZE,
    "string pieces": "a: " + "''" * SIZE,
    "open brackets": "a: " + "[" * SIZE,
    "an endless extension": "[a" + " a" * SIZE,
    "a list": "a: [" + "1," * SIZE,
    "signs": "a: " + "-" * SIZE,
    "signs with comments": "a: -" + "# -\n" * SIZE,
    "digits": "a: " + "9" * SIZE,
    "exponents": "a: 1" + "e+" * SIZE,
    "a name": "a" * SIZE,
    "fields": "a:1 " * SIZE,
    "separators": "a:1" + ";" * SIZE,
}


def text_or_message(text: str) -> str:
    try:
        return str(parse(text))
    except PrototxtError as error:
        return str(error)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_linear_time(text):
    # A quadratic reader would take minutes: there is no need to measure.
    result = text_or_message(text)

    assert result == text or len(result) < 1000
