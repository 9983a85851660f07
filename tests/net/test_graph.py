import pytest

from caffesplit.errors import NetError
from caffesplit.formats import prototxt
from caffesplit.net import graph


def net(text):
    return graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")


def layer(rules=""):
    return net(f'layer {{ name: "a" type: "ReLU" bottom: "x" top: "x" {rules} }}').layers[0]


def test_layers_keep_their_order_their_blobs_and_their_place():
    made = net('name: "n"\nlayer { name: "a" type: "T" bottom: "x" top: "y" top: "z" }')
    (only,) = made.layers
    assert (only.name, only.type, only.bottoms, only.tops) == ("a", "T", ("x",), ("y", "z"))
    assert (only.location.line, only.location.column) == (2, 1)


def test_v1_layers_have_todays_type_names():
    made = net('layers { name: "c" type: CONVOLUTION bottom: "x" top: "y" param: "shared" }')
    assert made.legacy
    assert made.layers[0].type == "Convolution"
    assert made.layers[0].shared_params == ("shared",)


@pytest.mark.parametrize(
    ("rules", "phases"),
    [
        ("", ("TRAIN", "TEST")),
        ("include { phase: TRAIN }", ("TRAIN",)),
        ("include { phase: TRAIN } include { phase: TEST }", ("TRAIN", "TEST")),
        ("exclude { phase: TRAIN }", ("TEST",)),
        ("include { stage: 'deploy' }", ()),
        ("include { not_stage: 'deploy' }", ("TRAIN", "TEST")),
        ("include { min_level: 1 }", ()),
        ("exclude { max_level: 0 }", ()),
    ],
)
def test_phases_follow_caffes_rules(rules, phases):
    assert layer(rules).phases == phases


def test_stages_and_levels_are_states_of_the_net():
    assert layer("include { stage: 'a' stage: 'b' }").is_in("TEST", stages=["a", "b", "c"])
    assert not layer("include { stage: 'a' stage: 'b' }").is_in("TEST", stages=["a"])
    assert layer("include { min_level: 1 max_level: 2 }").is_in("TEST", level=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'name: "empty"',
            "net.prototxt: no layer, expected a net with `layer { … }`\n"
            "Is this the net? A solver names it in its `net` field.",
        ),
        (
            'layer { name: "a" } layers { name: "b" }',
            "net.prototxt:1:21: `layers` beside `layer`, expected one of them\n"
            '    layer { name: "a" } layers { name: "b" }\n'
            "                        ^\n"
            "Write all layers as `layer`.",
        ),
        (
            'layers { layer { name: "a" type: "conv" } }',
            "net.prototxt:1:1: a layer in the V0 format of 2013, expected `layer { name: … type: … "
            '}`\n    layers { layer { name: "a" type: "conv" } }\n    ^\n'
            "Upgrade the experiment first: `caffesplit upgrade EXP -o OUT`; "
            "a net alone: `caffesplit upgrade NET -o OUT`.",
        ),
        (
            'layer: [{ name: "a" }, { name: "b" }]',
            "net.prototxt:1:1: `layer` as a list, expected one `layer { … }` per layer\n"
            '    layer: [{ name: "a" }, { name: "b" }]\n    ^\n'
            "Write each layer as a field of its own.",
        ),
    ],
)
def test_what_is_no_net_says_so(text, message):
    with pytest.raises(NetError) as caught:
        net(text)
    assert str(caught.value) == message


def test_blobs_are_the_inputs_and_all_tops():
    made = net(
        'input: "data" input: "label"\nlayer { name: "a" type: "T" bottom: "data" top: "y" }'
    )
    assert made.blobs == {"data", "label", "y"}
