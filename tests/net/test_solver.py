import pytest

from caffesplit.errors import NetError
from caffesplit.formats import prototxt, schema
from caffesplit.net import graph
from caffesplit.net.solver import (
    State,
    check_tests,
    net_nodes,
    nets_tested,
    phases,
    train_state,
    with_nodes,
)

NET = """
layer { name: "both" type: "Silence" }
layer { name: "train" type: "Silence" include { phase: TRAIN } }
layer { name: "quick" type: "Silence" include { phase: TEST stage: "quick" } }
layer { name: "deep" type: "Silence" include { min_level: 2 } }
"""


def net(text=NET):
    return graph.build(prototxt.parse(text))


def solver(text):
    return schema.read(prototxt.parse(text), "SolverParameter").message


def names(layers):
    return [layer.name for layer in layers]


def test_the_trained_net_comes_first_then_the_tested_ones_in_caffes_order():
    text = 'test_net: "b" test_net_param { } test_net: ["c", "d"] train_net: "a"'
    found = [(field, str(node)) for field, node in net_nodes(prototxt.parse(text))]
    assert found == [
        ("train_net", '"a"'),
        ("test_net_param", "{ }"),
        ("test_net", '"b"'),
        ("test_net", '"c"'),
        ("test_net", '"d"'),
    ]


def test_a_solver_trains_one_net():
    with pytest.raises(NetError) as caught:
        net_nodes(prototxt.parse('net: "a"\ntrain_net: "b"', "solver.prototxt"))
    assert str(caught.value).splitlines() == [
        "solver.prototxt:2:12: a solver with `net` and `train_net`, expected one of net, "
        "net_param, train_net, train_net_param",
        '    train_net: "b"',
        "               ^",
        "Keep the one that is to be trained.",
    ]
    with pytest.raises(NetError) as caught:
        net_nodes(prototxt.parse('test_net: "a"'), "solver.prototxt")
    assert str(caught.value) == (
        "solver.prototxt: a solver without a net to train, expected one of net, net_param, "
        'train_net, train_net_param\nName the net, as in net: "train_val.prototxt".'
    )


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("net", ("TRAIN", "TEST")),
        ("net_param", ("TRAIN", "TEST")),
        ("train_net", ("TRAIN",)),
        ("train_net_param", ("TRAIN",)),
        ("test_net", ("TEST",)),
        ("test_net_param", ("TEST",)),
    ],
)
def test_the_field_tells_in_which_phases_a_net_serves(field, expected):
    assert phases(field) == expected


def test_a_state_has_the_layers_whose_rules_it_meets():
    assert names(State("TRAIN").layers(net())) == ["both", "train"]
    assert names(State("TEST", 2, ("quick",)).layers(net())) == ["both", "quick", "deep"]


def test_the_solver_trains_in_the_nets_state_and_then_its_own():
    assert train_state(solver(""), net()) == State("TRAIN")
    own = net('state { level: 1 stage: "a" }' + NET)
    assert train_state(solver(""), own) == State("TRAIN", 1, ("a",))
    more = solver('train_state { level: 2 stage: "b" }')
    assert train_state(more, own) == State("TRAIN", 2, ("a", "b"))


def test_the_net_is_tested_as_often_as_there_is_test_iter_left_each_in_its_state():
    trained, tested = net(), net('state { stage: "own" }' + NET)
    text = 'test_iter: 1 test_iter: 2 test_iter: 3 test_state { stage: "x" } test_state { }'
    found = list(nets_tested(solver(text), [("net", trained), ("test_net", tested)]))
    assert found == [
        (tested, State("TEST", 0, ("own", "x"))),
        (trained, State("TEST")),
        (trained, State("TEST")),
    ]
    nets = [("train_net", trained), ("test_net", tested)]
    assert [state for _, state in nets_tested(solver("test_iter: 1"), nets)] == [
        State("TEST", 0, ("own",))
    ]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", ["net"]),
        ("test_iter: 1 test_iter: 2", ["net"]),
        ("test_iter: 1 test_state { }", ["net_param", "test_net"]),
        ("", ["train_net"]),
        ("test_iter: 1", ["train_net_param", "test_net_param"]),
    ],
)
def test_a_solver_says_how_long_each_net_is_tested(text, fields):
    check_tests(solver(text), fields)


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        (
            "test_iter: 1",
            ["net", "test_net", "test_net"],
            "s: 1 test_iter for 2 nets to test, expected one for each, and more where `net` is "
            "tested too\nWrite test_iter once per test_net and test_net_param.",
        ),
        (
            "test_iter: 1",
            ["train_net"],
            "s: 1 test_iter for 0 nets to test, expected one for each\n"
            "Write test_iter once per test_net and test_net_param.",
        ),
        (
            "test_iter: 1 test_iter: 1 test_state { }",
            ["net"],
            "s: 1 test_state for 2 test_iter, expected one for each, or none",
        ),
    ],
)
def test_what_caffe_would_refuse_of_its_tests_is_told(text, fields, message):
    with pytest.raises(NetError) as caught:
        check_tests(solver(text), fields, "s")
    assert str(caught.value) == message


def test_nets_are_replaced_in_the_text_and_all_else_stays():
    text = '# A.\ntest_net: [ "b",  "c" ]  # Two.\nnet_param { # Inside.\n}\nbase_lr: 1\n'
    tree = prototxt.parse(text)
    (_, inside), _, (_, last) = net_nodes(tree)
    new = prototxt.parse("x { y: 1 }").fields[0].value
    changed = with_nodes(tree, [(last, prototxt.Scalar('"new"')), (inside, new)])
    assert str(changed) == (
        '# A.\ntest_net: [ "b",  "new" ]  # Two.\nnet_param { y: 1 }\nbase_lr: 1\n'
    )
    assert str(with_nodes(tree, [])) == text
