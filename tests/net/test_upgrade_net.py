"""Upgrades of texts: before/after files, what survives, and what is refused or left out."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from caffesplit.errors import NetError, PrototxtError
from caffesplit.formats import schema
from caffesplit.formats.prototxt import encode, load, parse
from caffesplit.net import graph
from caffesplit.net.upgrade import upgrade_net, upgrade_solver
from caffesplit.net.upgrade_rules import (
    DATA_PARAMS,
    PADDING,
    SPEC_FIELDS,
    TRANSFORM_FIELDS,
    V0_TYPES,
)

DATA = Path(__file__).parent.parent / "data" / "upgrade"
PAIRS = sorted(path.name.removesuffix(".before.prototxt") for path in DATA.glob("*.before.*"))


def upgraded(name: str, stage: str):
    upgrade = upgrade_solver if "solver" in name else upgrade_net
    return upgrade(load(DATA / f"{name}.{stage}.prototxt"))


def net(text: str) -> str:
    """What an upgrade makes of a net's text; it is to leave nothing out."""
    made = upgrade_net(parse(text))
    assert not made.findings
    return str(made.result)


@pytest.mark.parametrize("name", PAIRS)
def test_an_upgrade_changes_what_it_must_and_nothing_else(name):
    expected = (DATA / f"{name}.after.prototxt").read_bytes()

    assert encode(upgraded(name, "before").result) == expected


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_of_today_comes_back_itself(name):
    tree = load(DATA / f"{name}.after.prototxt")
    made = (upgrade_solver if "solver" in name else upgrade_net)(tree)

    assert made.result is tree
    assert made.steps == made.findings == ()


@pytest.mark.parametrize("name", PAIRS)
def test_every_comment_survives(name):
    texts = [(DATA / f"{name}.{stage}.prototxt").read_text() for stage in ("before", "after")]
    before, after = (sorted(re.findall(r"#.*", text)) for text in texts)

    assert before == after


def test_the_files_hold_every_layer_type_and_every_field_that_moved():
    nets = [
        schema.read(load(DATA / f"{name}.before.prototxt"), "NetParameter").message
        for name in ("v0", "v1")
    ]
    assert {layer.layer.type for layer in nets[0].layers} == {*V0_TYPES, PADDING}
    fields = {field.name for layer in nets[0].layers for field, _ in layer.layer.ListFields()}
    all_fields = set(nets[0].layers[0].layer.DESCRIPTOR.fields_by_name)
    assert fields == all_fields - {"blobs", "new_num", "new_channels"}

    types = {layer.type for layer in nets[1].layers}
    assert types == set(nets[1].layers[0].LayerType.values())
    fields = {field.name for layer in nets[1].layers for field, _ in layer.ListFields()}
    assert fields == set(nets[1].layers[0].DESCRIPTOR.fields_by_name) - {"layer", "blobs"}
    assert fields > set(SPEC_FIELDS)
    data = next(layer for layer in nets[1].layers if layer.data_param.HasField("scale"))
    assert all(data.data_param.HasField(field) for field in TRANSFORM_FIELDS)
    assert fields > set(DATA_PARAMS.values())


def test_fields_of_a_fork_stay_in_their_layer():
    assert net('layers { name: "a" type: RELU fork_param { x: 1 } }') == (
        'layer { name: "a" type: "ReLU" fork_param { x: 1 } }'
    )
    assert net('version: 2 layers { layer { name: "a" type: "relu" fork: 1 } other: 2 }') == (
        'version: 2 layer { name: "a" type: "ReLU" fork: 1 other: 2 }'
    )


def test_data_layers_get_an_empty_transformation_where_another_has_one_as_in_caffe():
    assert net(
        'layers { name: "a" type: DATA data_param { scale: 2 } }\nlayers { name: "b" type: DATA }\n'
    ) == (
        'layer { name: "a" type: "Data" data_param { } transform_param { scale: 2 } }\n'
        'layer { name: "b" type: "Data" data_param { } transform_param { } }\n'
    )


def test_inputs_without_shapes_go_as_in_caffe():
    made = upgrade_net(parse('input: "data" # from a weight file\nlayer { name: "a" }\n'))

    assert str(made.result) == '# from a weight file\nlayer { name: "a" }\n'
    assert made.steps == ("input fields without shapes removed",)


def test_lists_become_fields():
    assert net(
        "layers: [{ name: \"a\" type: RELU }, # one\n  { name: 'b' type: RELU }]\n"
        'input: ["x"]\ninput_dim: [1, 2, # two\n 3, 4]\n'
    ) == (
        'layer {\n  name: "input"\n  type: "Input"\n  top: "x"\n  # two\n'
        "  input_param {\n    shape {\n"
        "      dim: 1\n      dim: 2\n      dim: 3\n      dim: 4\n    }\n  }\n}\n"
        "# one\n"
        'layer: { name: "a" type: "ReLU" }\nlayer: { name: \'b\' type: "ReLU" }\n'
    )


def test_a_solver_type_may_be_a_number():
    assert str(upgrade_solver(parse("solver_type: 1")).result) == 'type: "Nesterov"'


FINDINGS = [
    (
        'layers { layer { name: "a" type: "relu" pad: 1 } }',
        "net.prototxt:1:41: warning: `pad` in a V0 layer of type relu: has no place today, "
        "left out [no-place]",
    ),
    (
        'layers { layer { name: "a" type: "relu" new_num: 1 } }',
        "net.prototxt:1:41: warning: `new_num` in a V0 layer of type relu: has no place today, "
        "left out [no-place]",
    ),
    (
        'layers { layer { name: "a" type: "relu" } include { phase: TEST } }',
        "net.prototxt:1:43: warning: `include` beside a V0 layer: has no place today, left out "
        "[no-place]",
    ),
    (
        'debug_info: true layers { layer { name: "a" type: "relu" } }',
        "net.prototxt:1:1: warning: `debug_info` in a V0 net: has no place today, left out "
        "[no-place]",
    ),
    (
        "layers { type: DATA data_param { scale: 2 } transform_param { scale: 3 } }",
        "net.prototxt:1:63: warning: `scale`, for data_param has another: has no place today, "
        "left out [no-place]",
    ),
    (
        'input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5',
        "net.prototxt:1:1: warning: 1 more `input_dim`s than its `input`s take: has no place "
        "today, left out [no-place]",
    ),
    (
        'input: "a" input_shape { dim: 1 } input_dim: 2',
        "net.prototxt:1:1: warning: input_dim beside input_shape: has no place today, left out "
        "[no-place]",
    ),
]


@pytest.mark.parametrize(("text", "expected"), FINDINGS)
def test_what_has_no_place_today_is_told(text, expected):
    made = upgrade_net(parse(text, "net.prototxt"), "net.prototxt")

    assert [str(finding) for finding in made.findings] == [expected]


REMEDY = "Caffe refuses such a net, or loses layers; bring all of them into one format by hand."
MIXTURE = (
    "layers of several formats in one net, expected `layer`, or `layers`, or `layers` with a V0 "
    "`layer` in each"
)
ERRORS = [
    ('layers { name: "a" }\nlayer { name: "b" }', f"2:1: {MIXTURE}", REMEDY),
    ('layers { layer { name: "a" } }\nlayer { name: "b" }', f"2:1: {MIXTURE}", REMEDY),
    ('layers { layer { name: "a" } }\nlayers { name: "b" }', f"2:1: {MIXTURE}", REMEDY),
    (
        "layers { type: SPP }",
        "1:10: V1 has no layer type SPP, expected one of NONE, ACCURACY, BNLL, ",
        'Types of a fork exist as `layer { type: "…" }` alone; write the layer so.',
    ),
    (
        'layers { layer { name: "a" type: "Conv" } }',
        '1:28: V0 has no layer type "Conv", expected one of accuracy, bnll, ',
        "Caffe could not load this net either; correct the type.",
    ),
    (
        'layers { layer { name: "a" type: "relu" } bottom: "x" }',
        '1:1: layer "a" reads "x", which no layer above it writes, expected a blob that is there',
        "Correct the bottom's name, or the order of the layers.",
    ),
    (
        'layers { layer { name: "p" type: "padding" } top: "p" }\n'
        'layers { layer { name: "a" type: "relu" } bottom: "p" }',
        '2:1: layer "a" of type relu reads the padding layer "p", expected a conv or pool layer '
        "with one bottom, behind a padding layer with one bottom and top",
        "Caffe could not load this net either; change these layers by hand.",
    ),
    (
        'input: "a" input_dim: 1 input_dim: 2',
        "1:1: 1 `input`s and 2 `input_dim`s, expected 4 `input_dim`s",
        "Give each input its `input_dim`s: num, channels, height, width.",
    ),
    (
        'input: "a" input: "b" input_shape { dim: 1 }',
        "1:1: 2 `input`s and 1 `input_shape`s, expected 2 `input_shape`s",
        "Give each input its `input_shape`.",
    ),
]


@pytest.mark.parametrize(("text", "message", "remedy"), ERRORS)
def test_what_caffe_refuses_or_garbles_is_an_error(text, message, remedy):
    with pytest.raises(NetError) as caught:
        upgrade_net(parse(text, "net.prototxt"), "net.prototxt")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"net.prototxt:{message}")
    assert lines[-1] == remedy


def test_a_value_that_its_new_field_does_not_take_is_an_error():
    text = 'layers { layer { name: "a" type: "images" new_height: -1 } }'
    with pytest.raises(PrototxtError, match='found "-1", expected a non-negative integer'):
        upgrade_net(parse(text, "net.prototxt"), "net.prototxt")


SOLVER_ERRORS = [
    (
        'solver_type: SGD type: "SGD"',
        "solver.prototxt:1:1: `solver_type` beside `type`, expected one of them\n"
        '    solver_type: SGD type: "SGD"\n    ^\n'
        "Remove `solver_type`; Caffe refuses such a solver.",
    ),
    (
        "solver_type: LARS",
        "solver.prototxt:1:1: there is no solver_type LARS, expected one of SGD, NESTEROV, "
        "ADAGRAD, RMSPROP, ADADELTA, ADAM\n    solver_type: LARS\n    ^\n"
        'Solvers of a fork exist as `type: "…"` alone; write the type so.',
    ),
]


@pytest.mark.parametrize(("text", "message"), SOLVER_ERRORS)
def test_what_caffe_refuses_of_a_solver_is_an_error(text, message):
    with pytest.raises(NetError) as caught:
        upgrade_solver(parse(text, "solver.prototxt"), "solver.prototxt")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "field",
    [
        "input_dim: 1\n",
        'layers { name: "a" type: RELU blobs_lr: 1 }\n',
        'layers { layer { type: "relu" } }\n',
    ],
)
def test_the_time_grows_with_the_text_alone(field):
    def seconds(count: int) -> float:
        tree = parse('input: "x"\ninput_dim: [1, 2, 3, 4]\n' + field * count)
        start = time.process_time()
        upgrade_net(tree)
        return time.process_time() - start

    seconds(100)
    assert seconds(2000) < 40 * seconds(200) + 0.1


@pytest.mark.parametrize(
    "inputs",
    ["input_dim: [1, 1, 8, 8]", "input_dim: 1\ninput_dim: 1 input_dim: 8 input_dim: 8",
     "input_shape { dim: 2 }"],
)  # fmt: skip
def test_an_input_layer_stands_where_the_first_input_stood(inputs):
    text = f'name: "x"\ninput: "a"\n{inputs}\nlayer {{ name: "r" type: "ReLU" bottom: "a" }}'
    made = upgrade_net(parse(text, "net.prototxt"), "net.prototxt").result
    assert str(graph.build(made).layers[0].location) == "net.prototxt:2:1"
