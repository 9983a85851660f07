"""Caffe's messages: they are those of Caffe, live alone, and are read as protobuf reads them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, text_format

from caffesplit.errors import PrototxtError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.schema import layer_types, message_class, read

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "prototxt"
MALFORMED = ROOT / "tests" / "data" / "malformed"
SHARED = ROOT.parent / "shared"
FACTS = SHARED / "reference" / "caffe-schema.tsv"
OUTSIDE = sorted((SHARED / "data" / "prototxt").glob("*.prototxt"))


def typed(text: str, name: str = "LayerParameter") -> schema.Typed:
    return read(prototxt.parse(text), name)


def by_protobuf(text: str, name: str = "LayerParameter"):
    """The message as protobuf's own parser reads it, None where it refuses."""
    try:
        return text_format.Parse(text, message_class(name)())
    except text_format.ParseError:
        return None


def by_caffes_parser(data: bytes, name: str = "NetParameter") -> bytes | None:
    """The message in wire format, by protobuf's C++ parser (in protoc), which is Caffe's too."""
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto"]
    encode = [f"--encode=caffe.{name}", "caffe.proto"]
    done = subprocess.run([*protoc, *encode], input=data, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


# The descriptors


def test_the_shipped_descriptors_are_those_of_the_proto_file():
    compiled = runpy.run_path(str(ROOT / "tools" / "compile_proto.py"))["compiled"]()
    shipped = (ROOT / "caffesplit" / "formats" / "caffe.desc").read_bytes()

    assert descriptor_pb2.FileDescriptorSet.FromString(
        shipped
    ) == descriptor_pb2.FileDescriptorSet.FromString(compiled), (
        "caffe.desc is out of date: run python tools/compile_proto.py"
    )


def rows_of_the_facts() -> set[tuple[str, ...]]:
    lines = FACTS.read_text("utf-8").splitlines()[2:]
    return {normal(*(line.split("\t") + [""] * 7)[:7]) for line in lines}


def rows_of_the_descriptors() -> set[tuple[str, ...]]:
    serialized = (ROOT / "caffesplit" / "formats" / "caffe.desc").read_bytes()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    rows = set(enum_rows("caffe", file.enum_type))
    for message in file.message_type:
        owner = f"caffe.{message.name}"
        rows |= set(enum_rows(owner, message.enum_type))
        for field in message.field:
            label = field.Label.Name(field.label).removeprefix("LABEL_").lower()
            kind = field.Type.Name(field.type).removeprefix("TYPE_").lower()
            kind = {"message": "", "enum": "enum "}.get(kind, kind) + field.type_name.lstrip(".")
            packed = "packed" if field.options.packed else ""
            number = str(field.number)
            rows.add(normal(owner, number, field.name, label, kind, field.default_value, packed))
    return rows


def enum_rows(owner: str, enums) -> Iterator[tuple[str, ...]]:
    for enum in enums:
        for value in enum.value:
            yield (f"enum {owner}.{enum.name}", str(value.number), value.name, "", "", "", "")


def normal(owner, number, name, label, kind, default, packed) -> tuple[str, ...]:
    """A row whose default is spelled in one way."""
    if default and kind in ("float", "double"):
        default = str(np.float32(default))
    return (owner, number, name, label, kind, default.lower(), packed)


@pytest.mark.skipif(not FACTS.exists(), reason="the facts of the format are not here")
def test_the_descriptors_agree_with_every_fact_of_the_format():
    assert rows_of_the_descriptors() == rows_of_the_facts()


def test_fields_have_caffes_defaults():
    layer = message_class("LayerParameter")()

    assert layer.convolution_param.group == 1
    assert layer.pooling_param.pool == 0
    assert layer.batch_norm_param.eps == np.float32(1e-5)
    assert message_class("SolverParameter")().type == "SGD"


def test_an_unknown_message_name_is_a_key_error():
    with pytest.raises(KeyError):
        message_class("NoSuchParameter")


def test_layer_types_are_those_that_caffe_registers():
    assert len(layer_types()) == 61
    assert {"Convolution", "SoftmaxWithLoss", "BNLL", "Swish", "LSTMUnit"} <= layer_types()
    assert "DepthwiseConvolution" not in layer_types()


# Beside another caffe_pb2


@pytest.fixture(scope="module", params=["caffe.proto", "caffe/proto/caffe.proto"])
def other_caffe(request, tmp_path_factory):
    """A fork's caffe_pb2: the same package and messages, but one field more."""
    folder = tmp_path_factory.mktemp("fork")
    proto = folder / request.param
    proto.parent.mkdir(parents=True, exist_ok=True)
    text = (ROOT / "proto" / "caffe.proto").read_text("utf-8")
    last = "optional ClipParameter clip_param = 148;"
    fork = text.replace(last, last + " optional string math = 301;")
    assert fork != text
    proto.write_text(fork, "utf-8")
    protoc = ["-m", "grpc_tools.protoc", "-I", folder, f"--python_out={folder}", request.param]
    subprocess.run([sys.executable, *protoc], check=True)
    return folder, request.param.replace(".proto", "_pb2").replace("/", ".")


@pytest.mark.parametrize("ours_first", [True, False])
def test_another_caffe_pb2_works_in_the_same_process(other_caffe, ours_first):
    folder, module = other_caffe
    ours = "from caffesplit.formats.schema import message_class; message_class('NetParameter')"
    theirs = f"import {module} as theirs; theirs.NetParameter()"
    script = "\n".join(
        [
            *((ours, theirs) if ours_first else (theirs, ours)),
            "net = theirs.NetParameter(name='net')",
            "net.layer.add(name='conv1', math='FLOAT')",
            "same = message_class('NetParameter').FromString(net.SerializeToString())",
            "assert same.layer[0].name == 'conv1' and not hasattr(same.layer[0], 'math')",
            "assert theirs.NetParameter.FromString(same.SerializeToString()) == net",
        ]
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=folder)


# Reading


@pytest.mark.parametrize("path", [DATA / "everything.prototxt", DATA / "solver.prototxt", *OUTSIDE])
def test_a_file_is_read_as_protobuf_reads_it(path):
    name = "SolverParameter" if "solver" in path.name else "NetParameter"
    result = read(prototxt.load(path), name)

    assert result.message == by_protobuf(path.read_text("utf-8"), name)
    assert result.unknown == ()


@pytest.mark.parametrize(
    "data",
    [
        (DATA / "everything.prototxt").read_bytes(),
        b"layer { loss_weight: - 1 loss_weight: -\n# of\n inf }",
        rb'layer { name: "\X4a\?\xA\7" propagate_down: 0x1 propagate_down: 00 }',
        b'name:"x"debug_info:true layer[{phase:TEST},<>]input:"a";input:[],',
    ],
)
def test_a_text_is_read_as_caffes_own_parser_reads_it(data):
    expected = message_class("NetParameter").FromString(by_caffes_parser(data))

    assert typed(data.decode("utf-8"), "NetParameter").message == expected


TAKEN_BY_CAFFE = {"empty.prototxt", "required_field_missing.prototxt", "string_not_utf8.prototxt"}
"""Caffe complains of these later, or not at all."""


@pytest.mark.parametrize("path", sorted(MALFORMED.glob("*.prototxt")), ids=lambda path: path.name)
def test_what_is_malformed_is_so_for_caffes_own_parser(path):
    taken = by_caffes_parser(path.read_bytes()) is not None

    assert taken == (path.name in TAKEN_BY_CAFFE)


def test_a_message_of_the_tree_can_be_read_by_itself():
    net = prototxt.parse('layer { name: "a" type: "ReLU" relu_param { } }')
    layer = read(net.fields[0].as_message(), "LayerParameter").message

    assert layer.name == "a"
    assert layer.HasField("relu_param")
    assert not layer.HasField("convolution_param")


# One field of each type; values that protobuf takes, and values that it refuses.
INTEGERS = ["0", "7", "007", "0x1F", "0X1f", "-0", "4294967295", "08", "1.0", "1e3", "1f", "0x"]
EDGES = ["2147483647", "2147483648", "-2147483648", "-2147483649", "-1", "4294967296"]
WIDE = ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "9" * 100]
NUMBERS = ["1.", ".5", "-.5", "1e3", "1E-3f", "1.5F", "inf", "-inf", "Infinity", "1e40", "-1e-50"]
WORDS = ["true", "True", "TRUE", "t", "false", "False", "f", "TEST", "test", "yes", "nan"]
OTHERS = ['"x"', '"1"', "{ }", "[ ]", "[1]", "[1, 2]", "[true]", "['x']"]
FIELDS = {
    "int32": ("ArgMaxParameter", "axis"),
    "uint32": ("CropParameter", "offset"),
    "int64": ("BlobShape", "dim"),
    "float": ("FillerParameter", "std"),
    "floats": ("EltwiseParameter", "coeff"),
    "double": ("BlobProto", "double_data"),
    "bool": ("MVNParameter", "across_channels"),
    "string": ("ParamSpec", "name"),
    "strings": ("NetState", "stage"),
    "bytes": ("Datum", "data"),
    "message": ("ScaleParameter", "filler"),
    "messages": ("InputParameter", "shape"),
}


@pytest.mark.parametrize(("name", "field"), FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("value", [*INTEGERS, *EDGES, *WIDE, *NUMBERS, *WORDS, *OTHERS])
def test_a_value_is_taken_or_refused_as_protobuf_does(name, field, value):
    text = f"{field}: {value}"
    expected = by_protobuf(text, name)

    if expected is None:
        with pytest.raises(PrototxtError):
            typed(text, name)
    else:
        assert str(typed(text, name).message) == str(expected)  # text, for NaN is not itself


@pytest.mark.parametrize(("text", "phase"), [("TEST", 1), ("0", 0), ("0x1", 1), ("01", 1)])
def test_an_enum_is_a_name_or_a_number(text, phase):
    message = typed(f"phase: {text}").message

    assert message.HasField("phase")
    assert message.phase == phase


@pytest.mark.parametrize("value", ["0x1", "00", "01"])
def test_a_bool_is_any_integer_that_is_0_or_1_as_in_caffes_own_parser(value):
    assert typed(f"mirror: {value}", "TransformationParameter").message.HasField("mirror")


def test_fields_of_forks_are_left_out_and_reported():
    path = DATA / "fork.prototxt"
    net = read(prototxt.load(path), "NetParameter")

    assert [
        (u.kind, u.name, u.message_name, u.location.line, u.suggestion) for u in net.unknown
    ] == [
        ("field", "default_forward_type", "NetParameter", 3, None),
        ("field", "forward_math", "LayerParameter", 9, None),
        ("field", "kernl_size", "ConvolutionParameter", 12, "kernel_size"),
        ("value", "MKLDNN", "ConvolutionParameter.Engine", 14, None),
        ("field", "quantize", "ConvolutionParameter", 15, None),
        ("value", "AVERAGE", "PoolingParameter.PoolMethod", 23, "AVE"),
        ("value", "2", "PoolingParameter.RoundMode", 23, None),
        ("field", "[some.vendor.extension]", "LayerParameter", 24, None),
        ("field", "149", "LayerParameter", 25, None),
    ]
    assert net.unknown[2].location.column == 5
    assert list(net.message.layer[0].convolution_param.kernel_size) == [3]
    assert not net.message.layer[1].pooling_param.HasField("pool")
    assert net.message.layer[1].pooling_param.kernel_size == 2


def test_what_a_fork_adds_does_not_change_the_rest():
    text = (DATA / "fork.prototxt").read_text("utf-8")
    known = "\n".join(
        line for line in text.splitlines() if "engine" not in line and "[some" not in line
    ).replace("pool: AVERAGE", "").replace("round_mode: 2", "")  # fmt: skip
    expected = text_format.Parse(known, message_class("NetParameter")(), allow_unknown_field=True)

    assert typed(text, "NetParameter").message == expected


def test_a_fork_may_repeat_its_fields_but_not_caffes():
    assert len(typed("mine: 1 mine: 2 mine { }").unknown) == 3
    with pytest.raises(PrototxtError, match="second"):
        typed("phase: FORKED phase: TEST")


def test_a_tree_that_was_edited_is_read_as_its_text():
    tree = prototxt.load(DATA / "solver.prototxt").with_field_set("base_lr", "0.5")
    tree = tree.without("stepvalue").with_field_set("weights", '"a.caffemodel"')

    assert read(tree, "SolverParameter").message == by_protobuf(str(tree), "SolverParameter")


def test_an_error_in_an_edited_field_names_the_file():
    tree = prototxt.parse("").with_field_set("base_lr", "high")

    with pytest.raises(
        PrototxtError, match=r'^out/solver\.prototxt: found "high", expected a number'
    ):
        read(tree, "SolverParameter", "out/solver.prototxt")


def test_many_unknown_fields_on_one_long_line_cost_little():
    text = "".join(f"unknown_{i}: 1 " for i in range(50_000))

    unknown = typed(text).unknown

    assert unknown[-1].location.column == text.index("unknown_999:") + 1
    assert len({id(each.location.text) for each in unknown}) == 1


def test_huge_integers_are_refused_at_once():
    with pytest.raises(PrototxtError, match="an integer of 64 bits"):
        typed("dim: 1" + "0" * 3_000_000, "BlobShape")


def test_of_many_unknown_fields_the_first_thousand_are_listed_and_the_others_counted():
    result = typed("mine: 1\n" * 3000)

    assert [unknown.location.line for unknown in result.unknown] == list(range(1, 1001))
    assert result.further_unknown == 2000
    assert typed("mine: 1\n" * 1000).further_unknown == 0
