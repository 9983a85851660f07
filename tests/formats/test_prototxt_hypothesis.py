"""Random texts: protobuf's own parser as the oracle, mutations of good files, random edits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffesplit.errors import PrototxtError
from caffesplit.formats.prototxt import Message, encode, load, parse, quote
from caffesplit.formats.schema import message_class, read

DATA = Path(__file__).parent.parent / "data" / "prototxt"
GOOD_TEXTS = [path.read_text("utf-8") for path in sorted(DATA.glob("*.prototxt"))]

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For a busy machine; that no text is slow is test_prototxt_errors' business."""

# Texts of a given message, in every way to write them that protobuf's Python parser knows too.

gaps = st.sampled_from(["", "", " ", " ", "\n", "\r\n", "\t ", "\n  ", " # x: {\n", "#'\r\n\n"])
spaces = gaps.filter(bool)
separators = st.one_of(spaces, st.tuples(gaps, st.sampled_from(",;"), gaps).map("".join))


def integers(lowest: int, highest: int) -> st.SearchStrategy[str]:
    numbers = st.integers(lowest, highest) | st.sampled_from([lowest, highest, 0])
    spellings = st.sampled_from([str, hex, lambda n: f"-0{-n:o}" if n < 0 else f"0{n:o}"])
    return st.builds(lambda spell, number: spell(number), spellings, numbers)


floats = st.one_of(
    st.floats().map(repr),
    st.integers(-(2**64), 2**64).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,5})\.[0-9]{0,3}([eE][+-]?[0-9]{1,2})?[fF]?", fullmatch=True),
    st.sampled_from(["inf", "-inf", "nan", "-nan", "infinity", "-Infinity", ".5", "5.", "1e3F"]),
)
escapes = st.sampled_from(
    [*(f"\\{char}" for char in "abfnrtv\\'\""), "\\101", "\\007", "\\x41", "\\u00e9"]
)
characters = st.characters(exclude_characters="\\\"'\n\0", exclude_categories=["Cs"])
pieces = st.builds(
    lambda mark, parts: mark + "".join(parts) + mark,
    st.sampled_from("\"'"),
    st.lists(characters | escapes | st.just(" # "), max_size=5),
)


@st.composite
def strings(draw: st.DrawFn) -> str:
    first, rest = draw(pieces), draw(st.lists(st.tuples(gaps, pieces), max_size=2))
    return first + "".join(gap + piece for gap, piece in rest)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[str]:
    if field.enum_type:
        names = st.sampled_from(list(field.enum_type.values_by_name))
        numbers = st.sampled_from([str(value.number) for value in field.enum_type.values])
        return names | numbers
    return {
        FieldDescriptor.CPPTYPE_INT32: integers(-(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_INT64: integers(-(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT32: integers(0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_FLOAT: floats,
        FieldDescriptor.CPPTYPE_DOUBLE: floats,
        FieldDescriptor.CPPTYPE_BOOL: st.sampled_from(
            ["true", "True", "t", "1", "false", "f", "0"]
        ),
        FieldDescriptor.CPPTYPE_STRING: strings(),
    }[field.cpp_type]


def braced(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.sampled_from(["{}", "<>"])
    return st.builds(lambda pair, text: pair[0] + text + pair[1], pairs, texts)


@st.composite
def lists(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(st.tuples(gaps, values, gaps).map("".join), max_size=3))
    return f"[{','.join(items) or draw(gaps)}]"


@st.composite
def unknown_fields(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(["fork_param", "Zz9", "_", "149", "inf", "true"]))
    scalar = strings() | floats | integers(-(2**63), 2**64 - 1) | st.just("FLOAT16")
    message = braced(gaps)
    value = draw(scalar | lists(scalar) | lists(message) | message)
    return f"{name}{draw(gaps)}:{draw(gaps)}{value}"


@st.composite
def messages(draw: st.DrawFn, name: str, depth: int = 3) -> str:
    """Text of the fields of a Caffe message."""
    written = []
    fields = message_class(name).DESCRIPTOR.fields
    for field in draw(st.lists(st.sampled_from(list(fields)), max_size=4, unique_by=id)):
        is_message = field.message_type is not None
        if is_message and depth == 0:
            continue
        if is_message:
            values = braced(messages(field.message_type.name, depth - 1))
        else:
            values = scalars(field)
        colon = ":" if not is_message else draw(st.sampled_from(["", ":"]))
        if not field.has_presence and draw(st.booleans()):
            values = lists(values)
        repeats = 1 if field.has_presence else draw(st.integers(1, 2))
        for _ in range(repeats):
            gap = draw(gaps) + colon + draw(gaps)
            written.append(field.name + gap + draw(values))
    if draw(st.booleans()):
        written.append(draw(unknown_fields()))
    text = draw(gaps)
    for each in draw(st.permutations(written)):
        text += each + draw(separators)
    return text


@settings(patient)
@given(messages("LayerParameter") | messages("SolverParameter", 1))
def test_what_protobuf_accepts_is_parsed_without_loss(text):
    assert str(parse(text)) == text


@pytest.mark.parametrize("name", ["LayerParameter", "SolverParameter", "BlobProto", "Datum"])
def test_values_agree_with_protobuf(name):
    @settings(patient, max_examples=80)
    @given(messages(name))
    def agree(text):
        expected = message_class(name)()
        text_format.Parse(text, expected, allow_unknown_field=True)
        if expected.IsInitialized():
            actual = read(parse(text), name).message
            assert actual.SerializeToString() == expected.SerializeToString()

    agree()


@settings(patient)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_read_back(text):
    literal = quote(text)

    assert parse(f"data: {literal}").get("data").as_string() == text
    datum = text_format.Parse(f"data: {literal}", message_class("Datum")())
    assert datum.data.decode("utf-8") == text


@settings(patient)
@given(st.binary())
def test_quoted_bytes_are_read_back(data):
    literal = quote(data.decode("utf-8", "surrogateescape"))

    assert parse(f"data: {literal}").get("data").value.as_bytes() == data


# Damaged files


PIECE = re.compile(r"""\s+|\#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.]+|.""")

LAX_NAME = re.compile(r"(?<![\w.])(?!\d+\b[^.])[\d.][\w.+-]*\s*(#[^\n]*\s*)*[:{<]")
"""A field named 0.9, say: Python's parser takes it, Caffe's (C++) does not."""


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A good text with a few of its tokens deleted, doubled, moved or replaced."""
    parts = PIECE.findall(draw(st.sampled_from(GOOD_TEXTS)))
    for _ in range(draw(st.integers(1, 3))):
        index = draw(st.integers(0, len(parts) - 1))
        other = draw(st.integers(0, len(parts) - 1))
        parts[index : index + 1] = draw(
            st.sampled_from(
                [[], [parts[index]] * 2, [parts[other], " "], ["{"], ["}"], [":"], ["["], ["]"]]
            )
        )
    return "".join(parts)


def parses(text: str) -> bool:
    try:
        tree = parse(text)
    except PrototxtError:
        return False
    assert str(tree) == text
    return True


@given(mutations())
@settings(patient, max_examples=400)
def test_a_damaged_file_is_an_error_or_another_text(text):
    parsed = parses(text) or LAX_NAME.search(text)
    try:
        text_format.Parse(text, message_class("NetParameter")(), allow_unknown_field=True)
    except text_format.ParseError:
        return
    assert parsed, "protobuf accepts it"


@given(st.text(alphabet="a1-.:;,{}<>[]\"'\\#\n x\ufeff\0\u00a0"))
@settings(patient, max_examples=300)
def test_random_text_is_an_error_or_survives(text):
    parses(text)


@given(data=st.binary() | st.tuples(st.sampled_from(GOOD_TEXTS), st.binary()).map(
    lambda pair: pair[0].encode()[:200] + pair[1]
))  # fmt: skip
@settings(patient, max_examples=300)
def test_random_bytes_are_an_error_or_survive(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random.prototxt"
    path.write_bytes(data)
    try:
        result = encode(load(path))
    except PrototxtError as error:
        result = str(error).encode()  # its text can be printed

    assert result == data or result.startswith(str(path).encode())


# Edits


def content(message: Message) -> list[object]:
    return [
        (field.name, content(field.value) if isinstance(field.value, Message) else str(field.value))
        for field in message.fields
    ]


@given(messages("LayerParameter"), messages("ParamSpec"), st.data())
@settings(patient, max_examples=100)
def test_the_text_of_an_edited_tree_has_the_tree_s_content(text, snippet, data):
    tree = parse(text)
    for _ in range(3):
        edit = data.draw(st.sampled_from(["replace", "append", "set", "remove", "inside"]))
        new = parse(snippet).fields
        if edit == "append":
            tree = tree.appended(*new)
        elif edit == "set":
            tree = tree.with_field_set(data.draw(st.sampled_from(["name", "new"])), '"x"')
        elif tree.fields:
            old = data.draw(st.sampled_from(tree.fields))
            if edit == "replace":
                tree = tree.replaced(old, *new)
            elif edit == "remove":
                tree = tree.without(old.name)
            elif isinstance(old.value, Message):
                inner = old.value.with_field_set("name", "1").appended(*new)
                tree = tree.replaced(old, old.with_value(inner))
    assert content(parse(str(tree))) == content(tree)
