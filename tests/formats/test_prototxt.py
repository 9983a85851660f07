"""The lossless tree: round trip, values, positions, edits. Errors: test_prototxt_errors.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from google.protobuf import text_format

from caffesplit.errors import PrototxtError
from caffesplit.formats import schema
from caffesplit.formats.prototxt import (
    Field,
    ListValue,
    Message,
    Scalar,
    encode,
    load,
    parse,
    quote,
)

DATA = Path(__file__).parent.parent / "data" / "prototxt"
OUTSIDE = Path(__file__).parents[3] / "shared" / "data" / "prototxt"
OWN_FILES = sorted(DATA.glob("*.prototxt"))
FILES = [*OWN_FILES, *sorted(OUTSIDE.glob("*.prototxt"))]

DRESSES = {
    "as it is": lambda data: data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "no final newline": lambda data: data.rstrip(b"\n"),
    "comment at the end": lambda data: data + b"# the end",
    "bytes that are not UTF-8": lambda data: b"# caf\xe9 \xff\xfe\n" + data,
}


def only(text: str) -> Field:
    (field,) = parse(text).fields
    return field


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_loaded_is_written_back_byte_for_byte(path, dress, tmp_path):
    data = dress(path.read_bytes())
    copy = tmp_path / "net.prototxt"
    copy.write_bytes(data)

    assert encode(load(copy)) == data


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_empty_edit_gives_back_the_same_text(path):
    tree = load(path)
    for field in tree.fields:
        tree = tree.replaced(field, field)

    assert encode(tree) == path.read_bytes()


@pytest.mark.parametrize(
    "text", ["", "\n", "# comment", " ", "\ufeff", "\ufeff# c\n", "a{}", "a<>"]
)
def test_small_texts_survive(text):
    assert str(parse(text)) == text


def test_fields_keep_their_order_and_number():
    tree = parse("a: 1 b: 2 a { } b: [3]")

    assert [field.name for field in tree.fields] == ["a", "b", "a", "b"]
    assert tree.all("a") == (tree.fields[0], tree.fields[2])
    assert tree.get("a") is tree.fields[2]
    assert tree.get("c") is None
    assert tree.all("c") == ()


@pytest.mark.parametrize(
    "name", ["a", "_A9", "106", "[a.b.c]", "[type.googleapis.com/a.b]", "[ a . b ]"]
)
def test_names_are_identifiers_numbers_extensions_and_any_urls(name):
    assert only(f"{name} {{ }}").name == name


@pytest.mark.parametrize(
    ("raw", "items"),
    [
        ("[]", 0),
        ("[ # none\n ]", 0),
        ("[1]", 1),
        ("[ 1 , 2,3 ]", 3),
        ("['a' \"b\", 'c']", 2),
        ("[{a: 1}, < >]", 2),
    ],
)
def test_lists_hold_scalars_or_messages(raw, items):
    value = only(f"a: {raw}").value

    assert isinstance(value, ListValue)
    assert len(value.items) == items
    assert str(value) == raw


def test_a_list_of_messages_needs_no_colon():
    assert isinstance(only("layer [{ }, { }]").value, ListValue)


STRINGS = {
    r'"plain"': b"plain",
    r"''": b"",
    r"""'say "a"'""": b'say "a"',
    r"'a' # b 'c'" + "\n" + r'"d"': b"ad",
    r'"\a\b\f\n\r\t\v\\\'\"\?"': b"\a\b\f\n\r\t\v\\'\"?",
    r'"\0\18\101\1011\377"': b"\0\x018AA1\xff",
    r'"\x4\x4aA\X4A\xffg"': b"\x04JAJ\xffg",
    r'"\u00e9\U0001F600\U0010ffff"': "é😀\U0010ffff".encode(),
    '"é😀\t\u2028"': "é😀\t\u2028".encode(),
}


@pytest.mark.parametrize(("raw", "value"), STRINGS.items())
def test_strings_are_unescaped_and_joined(raw, value):
    scalar = only(f"a: {raw}").value

    assert scalar.raw == raw
    assert scalar.as_bytes() == value


@pytest.mark.parametrize(
    "raw",
    [raw for raw in STRINGS if r"\?" not in raw and r"\X" not in raw],  # Python's parser lacks them
)
def test_strings_are_what_protobuf_makes_of_them(raw):
    datum = text_format.Parse(f"data: {raw}", schema.message_class("Datum")())

    assert only(f"data: {raw}").value.as_bytes() == datum.data


def test_bytes_that_are_not_utf8_survive_in_strings(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'source: "/caf\xe9"\n')
    source = load(path).get("source").as_string()

    assert source.encode("utf-8", "surrogateescape") == b"/caf\xe9"
    assert only(f"source: {quote(source)}").as_string() == source


@pytest.mark.parametrize(
    ("text", "literal"),
    [("a: -1", "-1"), ("a: - 1", "-1"), ("a: -\n# of\n inf", "-inf"), ("a: TRAIN", "TRAIN")],
)
def test_a_literal_has_no_spaces_behind_its_sign(text, literal):
    assert only(text).value.literal == literal


def test_every_node_knows_its_place():
    tree = parse('\ufeffa: 1\n\tb {\n  c: [ 2,\n 3 ] } # end\nd: "x"', "net.prototxt")
    b = tree.get("b")
    c = b.as_message().get("c")
    nodes = {
        "1:1": tree,
        "1:2": tree.get("a"),
        "1:5": tree.get("a").value,
        "2:2": b,
        "2:4": b.value,
        "3:3": c,
        "3:6": c.value,
        "3:8": c.value.items[0],
        "4:2": c.value.items[1],
        "5:1": tree.get("d"),
    }
    places = [str(node.location()) for node in nodes.values()]
    assert places == [f"net.prototxt:{place}" for place in nodes]
    assert c.location().text == "  c: [ 2,"


def test_the_source_line_of_a_place_cannot_steer_a_terminal():
    field = parse("a: 1 # \x1b[31m \r spoof \x85 \u202e\r\n").get("a")

    assert field.location().text == "a: 1 # �[31m � spoof � �\r"


def test_an_edited_node_keeps_the_place_of_what_it_replaced():
    tree = parse("a: 1\n b: 2", "net.prototxt").with_field_set("b", "3")

    assert str(tree.get("b").location()) == "net.prototxt:2:2"
    assert str(tree.get("b").value.location()) == "net.prototxt:2:5"


def test_a_new_node_has_no_place_but_the_file():
    field = parse("").with_field_set("a", "1").get("a")

    assert str(field.location("solver.prototxt")) == "solver.prototxt"


def test_comments_and_blank_lines_belong_to_the_field_that_follows():
    first, second = parse("# one\na: 1 # same line\n\n  # two\n  b: 2\n").fields

    assert (first.lead, first.trail) == ("# one\n", " # same line\n")
    assert (second.lead, second.trail) == ("\n  # two\n  ", "\n")


def test_the_rest_of_a_brace_s_line_belongs_to_the_brace():
    field = only("a { # open\n  b: 1\n  # last\n} # close\n")
    message = field.as_message()

    assert message.open == "{ # open\n"
    assert message.fields[0].lead == "  "
    assert message.tail == "  # last\n"
    assert field.trail == " # close\n"


def test_equal_texts_are_equal_trees_wherever_they_come_from():
    assert parse("a { b: 1 }", "one") == parse("a { b: 1 }", "two")
    assert parse("a: 1") != parse("a:1")


def test_an_edit_shares_what_it_leaves_alone():
    tree = parse("layer { a: 1 }\nlayer { a: 2 }\nlayer { a: 3 }\n")
    one, two, three = tree.fields
    edited = tree.replaced(two, two.with_value(two.as_message().with_field_set("a", "5")))

    assert edited.fields[0] is one
    assert edited.fields[2] is three
    assert str(tree.fields[1]) == "layer { a: 2 }\n"


NET = """\
# first
layer { name: "one" }  # still one

# about two
layer {
  name: "two"
}  # still two
# about three
layer { name: "three" }"""

NEW = 'layer {\n  name: "A"\n}\n# about B\nlayer { name: "B" }\nlayer { name: "C" }'


def test_one_layer_becomes_several_and_all_else_stays():
    tree = parse(NET)

    assert (
        str(tree.replaced(tree.fields[1], *parse(NEW).fields))
        == """\
# first
layer { name: "one" }  # still one

# about two
layer {
  name: "A"
}
# about B
layer { name: "B" }
layer { name: "C" }  # still two
# about three
layer { name: "three" }"""
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_only_the_replaced_lines_change(index):
    tree = parse(NET)
    before = "".join(map(str, tree.fields[:index]))
    after = "".join(map(str, tree.fields[index + 1 :]))
    edited = str(tree.replaced(tree.fields[index], *parse(NEW).fields))

    assert edited.startswith(before + tree.fields[index].lead)
    assert edited.endswith(tree.fields[index].trail + after)


def test_a_crlf_file_stays_one():
    tree = parse(NET.replace("\n", "\r\n"))
    text = str(tree.replaced(tree.fields[1], *parse(NEW).fields).appended(*parse(NEW).fields))

    assert text.count("\n") == text.count("\r\n") > 10
    assert str(parse(text.replace("\r\n", "\n"))) == text.replace("\r\n", "\n")


def test_copies_of_a_layer_do_not_repeat_its_comments():
    tree = parse("# about\nlayer { a: 1 }\n")
    layer = tree.fields[0]
    copy = layer.with_value(layer.as_message().with_field_set("a", "2"))

    assert str(tree.replaced(layer, copy, copy.with_lead(""))) == (
        "# about\nlayer { a: 2 }\nlayer { a: 2 }\n"
    )


def test_indented_layers_keep_their_indentation():
    tree = parse("  # about\n  layer { a: 1 }\n")
    new = parse("layer { b: 1 }\nlayer { b: 2 }\n").fields

    assert str(tree.replaced(tree.fields[0], *new)) == (
        "  # about\n  layer { b: 1 }\n  layer { b: 2 }\n"
    )


def test_no_new_field_deletes_the_old_one_with_its_comments():
    tree = parse(NET)

    assert str(tree.replaced(tree.fields[1])) == (
        '# first\nlayer { name: "one" }  # still one\n# about three\nlayer { name: "three" }'
    )


def test_replacing_goes_by_identity():
    tree = parse("a: 1\na: 1\n")

    assert str(tree.replaced(tree.fields[1])) == "a: 1\n"
    with pytest.raises(ValueError, match="not in this message"):
        tree.replaced(only("a: 1"))


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("a: 1\n", "a: 1\nb: 2\n"),
        ("a: 1", "a: 1\nb: 2"),
        ("a: 1 # one", "a: 1 # one\nb: 2"),
        ("  a: 1\n# tail\n", "  a: 1\n  b: 2\n# tail\n"),
        ("", "b: 2\n"),
        ("\ufeff", "\ufeffb: 2\n"),
        ("a: 1\r\n", "a: 1\r\nb: 2\r\n"),
        ("b: 1 # old\n", "b: 2 # old\n"),
        ("b: 1 b: 3", "b: 1 b: 2"),
        ("b { c: 1 }", "b: 2"),
        ("b: [1, 3];", "b: 2;"),
    ],
)
def test_setting_a_field_of_a_text_follows_its_layout(text, edited):
    assert str(parse(text).with_field_set("b", "2")) == edited


@pytest.mark.parametrize(
    ("message", "edited"),
    [
        ("{ a: 1 }", "{ a: 1 b: 2 }"),
        ("{a:1}", "{a:1 b: 2}"),
        ("{}", "{ b: 2 }"),
        ("{ }", "{ b: 2 }"),
        ("< >", "< b: 2 >"),
        ("{\n  a: 1\n}", "{\n  a: 1\n  b: 2\n}"),
        ("{\n  a: 1 }", "{\n  a: 1\n  b: 2 }"),
        ("{\n}", "{\n  b: 2\n}"),
        ("{ # none\n  }", "{ # none\n    b: 2\n  }"),
        ("{\n    a: 1  # one\n    # last\n}", "{\n    a: 1  # one\n    b: 2\n    # last\n}"),
        ("{ b: 1, a: 1 }", "{ b: 2, a: 1 }"),
    ],
)
def test_setting_a_field_of_a_message_follows_its_layout(message, edited):
    field = only(f"m {message}")
    text = str(field.with_value(field.as_message().with_field_set("b", "2")))

    assert text == f"m {edited}"
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("a: 1\nb: 2\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: 1, b: 2, c: 3", "a: 1, c: 3"),
        ("a: 1\n# gone\nb: 1\nb: 2 # gone\n# stays\n", "a: 1\n# stays\n"),
        ('a: 1 b: "x"\nc: 3\n', "a: 1\nc: 3\n"),
        ('a: "x" b: 10 b: 20\nc: 5', 'a: "x"\nc: 5'),
        ("a: 1, b: 2 # gone\r\nc: 3\r\n", "a: 1,\r\nc: 3\r\n"),
        ("a: 1 b: 2 c: 3\nb: 4 d: 5\n", "a: 1 c: 3\n d: 5\n"),
        ("m {\n  a: 1 }\nb: 2\n", "m {\n  a: 1 }\n"),
    ],
)
def test_removing_fields_removes_their_lines_and_no_other_line_end(text, edited):
    assert str(parse(text).without("b")) == edited


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("# licence\n\nb: 1\nc: 2\n", "# licence\n\nc: 2\n"),
        ("# licence\nb: 1\n# gone\nb: 2\n# c\nc: 2\n", "# licence\n# c\nc: 2\n"),
        ("\ufeff# licence\n  b: 1\n  c: 2", "\ufeff# licence\n  c: 2"),
        ("# licence\nb: 1\n# the end\n", "# licence\n# the end\n"),
        ("b: 1 c: 2", " c: 2"),
    ],
)
def test_the_comments_at_the_top_of_a_file_stay_when_its_first_field_goes(text, edited):
    tree = parse(text)

    assert str(tree.without("b")) == edited
    if len(tree.all("b")) == 1:
        assert str(tree.replaced(tree.fields[0])) == edited


def test_the_comments_in_front_of_the_first_field_inside_a_message_go_with_it():
    message = only("m {\n  # gone\n  b: 1\n  a: 1\n}").as_message()

    assert str(message.without("b")) == "{\n  a: 1\n}"


def test_a_thousand_layers_are_replaced_one_by_one_in_a_few_seconds():
    layer = 'layer {\n  name: "x"\n  convolution_param { num_output: 8 kernel_size: 3 }\n}\n'
    tree = parse(1000 * layer)
    start = time.perf_counter()
    for old in tree.fields:
        tree = tree.replaced(old, old, old)

    assert time.perf_counter() - start < 20
    assert str(tree) == 2000 * layer


@pytest.mark.parametrize("raw", ["", "1 2", "}", "1 b: 2", '"open', "{}", "[1]", "1.2.3", "# 1"])
def test_only_one_scalar_can_be_set(raw):
    with pytest.raises(PrototxtError):
        parse("a: 1").with_field_set("a", raw)


@pytest.mark.parametrize("lead", ["# no newline", "x", "\n# a\n b"])
def test_a_lead_holds_nothing_but_spaces_and_comments(lead):
    with pytest.raises(ValueError, match="whole-line comments"):
        only("a: 1").with_lead(lead)


def test_a_scalar_in_place_of_a_message_gets_its_colon():
    assert str(only("a { }").with_value(only("a: 1").value)) == "a: 1"
    assert str(only("a: 1").with_value(only("a { }").value)) == "a: { }"


def test_a_nested_message_can_be_a_text_of_its_own():
    message = only("net_param {\n  layer { }\n}").as_message()

    assert isinstance(message, Message)
    assert str(parse(str(message.fields[0]))) == "  layer { }\n"


def test_transformed_changes_fields_however_deep_and_keeps_all_others():
    text = "a { b { c: 1 } }  # one\nd { c: 2 }\ne: [3]\n"
    tree = parse(text)

    def doubled(field):
        return field.with_value(Scalar("4")) if str(field.value) == "2" else field

    assert str(tree.transformed(doubled)) == text.replace("2", "4")
    assert tree.transformed(doubled).fields[0] is tree.fields[0]
    assert tree.transformed(lambda field: field) is tree


def test_a_value_that_replaces_a_string_does_not_run_into_the_next_name():
    tree = parse("a: 'x'b: 1 c: 'y'd: 2")
    assert str(tree.with_field_set("a", "3")) == "a: 3 b: 1 c: 'y'd: 2"
    assert (
        str(parse("m { a: 1 b: 'x'c: 2 }").fields[0].as_message().without("b")) == "{ a: 1 c: 2 }"
    )
