from pathlib import Path

import pytest
from pycaffe_process import Pycaffe

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.net.findings import MAX_PER_RULE

REWRITE = Path(__file__).parent.parent / "data" / "rewrite"

DATA = 'layer { name: "data" type: "Input" top: "data" }\n'
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
    "  convolution_param { num_output: 4 kernel_size: 3 bias_term: true } }\n"
)


def net(text):
    return graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")


def found(text):
    return [str(finding) for finding in check_net(net(text))]


def test_a_legal_net_has_no_findings():
    relu = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }'
    assert found(DATA + CONV + relu) == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "\ufeff" + DATA,
            "net.prototxt:1:1: error: a byte order mark; Caffe refuses the file. Save it as UTF-8 "
            "without one [no-byte-order-mark]",
        ),
        (
            DATA + 'layer { name: "a" type: "ReLU" bottom: "dat" top: "b" }',
            "net.prototxt:2:1: error: layer 'a': bottom 'dat' is no earlier layer's top; did you "
            "mean data? [defined-bottoms]",
        ),
        (
            DATA + 'layer { name: "a" type: "ReLU" bottom: "b" top: "c" }\n'
            'layer { name: "b" type: "ReLU" bottom: "data" top: "b" }',
            "net.prototxt:2:1: error: layer 'a': bottom 'b' is no earlier layer's top, but a later "
            "one's [defined-bottoms]",
        ),
        (
            DATA + 'layer { name: "a" type: "Slice" bottom: "data" top: "b" top: "b" }',
            "net.prototxt:2:1: error: layer 'a': top 'b' is produced already [single-producers]",
        ),
        (
            'input: "data"\n' + DATA,
            "net.prototxt:2:1: error: layer 'data': top 'data' is produced already "
            "[single-producers]",
        ),
        (
            DATA + 'layer { name: "b" type: "ReLU" bottom: "data" top: "c" }\n'
            'layer { name: "c" type: "ReLU" bottom: "data" top: "c" }',
            "net.prototxt:3:1: error: layer 'c': top 'c' is produced already [single-producers]",
        ),
        (
            DATA + 'layer { name: "b" type: "ReLU" bottom: "data" top: "c" }\n'
            'layer { name: "b" type: "ReLU" bottom: "data" top: "d" }',
            "net.prototxt:3:1: warning: a second layer 'b'; weights are loaded by name "
            "[unique-names]",
        ),
        (
            DATA + 'layer { name: "b" type: "Convolutoin" bottom: "data" top: "c" }',
            "net.prototxt:2:1: warning: layer 'b': BVLC Caffe has no layer type 'Convolutoin'; "
            "did you mean Convolution? [unknown-type]",
        ),
        (
            DATA + CONV.replace("bias_term", "bias_trem"),
            "net.prototxt:3:52: warning: ConvolutionParameter has no 'bias_trem' in BVLC Caffe; "
            "did you mean bias_term? [unknown-field]",
        ),
    ],
)
def test_each_rule_reports_its_breach_once_with_its_place(text, finding):
    assert found(text) == [finding]


def test_layers_of_different_phases_may_share_names_and_tops():
    both = 'layer {{ name: "data" type: "Data" top: "data" include {{ phase: {} }} }}\n'
    assert found(both.format("TRAIN") + both.format("TEST") + CONV) == []


SMALL = DATA.replace("top:", "input_param { shape { dim: 2 dim: 4 } } top:")
RELU = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }\n'
READER = 'layer { name: "reader" type: "TanH" bottom: "data" top: "read" }\n'
NOT_ALONE = [
    (SMALL + READER + RELU, 3, "'reader'"),
    (SMALL + RELU + READER + RELU.replace('"relu"', '"again"'), 4, "'reader'"),
    (
        SMALL + 'layer { name: "a" type: "Eltwise" bottom: "data" bottom: "data" top: "data" }',
        2,
        "'a'",
    ),
    (
        SMALL + READER.replace("name:", "loss_weight: 1 name:") + RELU.replace("data", "read"),
        3,
        "'reader'",
    ),
]
ALONE = [
    SMALL + RELU + READER + READER.replace("read", "more"),
    SMALL + RELU + RELU.replace('"relu"', '"again"') + READER,
    SMALL + READER + RELU.replace("data", "read"),
]


@pytest.mark.parametrize(("text", "line", "reader"), NOT_ALONE)
def test_a_layer_in_place_on_what_others_read_is_an_error(text, line, reader):
    (finding,) = check_net(net(text))
    assert (finding.rule, finding.at.line, finding.states) == ("lone-in-place", line, ())
    assert f"which layer {reader} reads too, expected a top of another name" in finding.message


@pytest.mark.parametrize("text", ALONE)
def test_a_layer_in_place_behind_the_other_readers_or_before_them_is_none(text):
    assert found(text) == []


def test_caffe_refuses_what_is_not_alone_in_place(python_caffe):
    with Pycaffe(python_caffe) as pycaffe:
        assert not any(pycaffe(text) for text, _, _ in NOT_ALONE)
        assert all(pycaffe(text) for text in ALONE)


TANH = READER
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "read" top: "read" }\n'


def test_what_works_in_place_on_values_that_caffe_goes_back_by_is_told():
    assert found(SMALL + TANH + DROPOUT) == [
        "net.prototxt:3:1: warning: layer 'drop': works in place on the top of 'reader'; Caffe's "
        "gradients through that TanH are of what then stands there; a top of another name mends "
        "it, in phase TRAIN [kept-tops]"
    ]


@pytest.mark.parametrize(
    "text",
    [
        SMALL + TANH + RELU.replace("data", "read"),
        SMALL + TANH + DROPOUT.replace('top: "read"', 'top: "dropped"'),
        SMALL + TANH.replace("TanH", "ReLU") + DROPOUT,
        SMALL + TANH + DROPOUT.replace("name:", "include { phase: TEST } name:"),
    ],
)
def test_what_harms_no_gradient_is_not(text):
    assert found(text) == []


def fully_connected(name, outputs, more="", bottom="data", share_mode=""):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"\n'
        f'  param {{ name: "w" {share_mode} }} '
        f"inner_product_param {{ num_output: {outputs} bias_term: false {more} }} }}\n"
    )


PERMISSIVE = "share_mode: PERMISSIVE"
WIDE = SMALL.replace('"data"', '"wide"').replace("dim: 4", "dim: 8")
SHARED_MISFITS = [
    (
        SMALL + fully_connected("a", 3) + fully_connected("b", 5),
        "layer 'b': shares 'w' as (5, 4), which layer 'a' has as (3, 4), expected equal shapes",
    ),
    (
        SMALL + fully_connected("a", 3) + fully_connected("b", 3, "transpose: true"),
        "layer 'b': shares 'w' as (4, 3), which layer 'a' has as (3, 4), expected equal shapes",
    ),
    (
        SMALL + fully_connected("a", 3) + fully_connected("b", 5, share_mode=PERMISSIVE),
        "layer 'b': shares 'w' as (5, 4), which layer 'a' has as (3, 4), expected as many values",
    ),
]
SHARED = [
    SMALL + fully_connected("a", 3) + fully_connected("b", 3),
    SMALL + WIDE + fully_connected("a", 6) + fully_connected("b", 3, "", "wide", PERMISSIVE),
]


@pytest.mark.parametrize(("text", "message"), SHARED_MISFITS)
def test_blobs_of_different_shapes_that_share_their_values_are_an_error(text, message):
    (finding,) = check_net(net(text))
    assert (finding.rule, finding.message, finding.states) == ("shared-shapes", message, ())


def test_old_nets_share_by_names_and_modes_of_their_own():
    ip = (
        'layers {{ name: "{}" type: INNER_PRODUCT bottom: "data" top: "{}" param: "w" {}\n'
        "  inner_product_param {{ num_output: {} bias_term: false }} }}\n"
    )
    text = 'input: "data" input_dim: [2, 4, 1, 1]\n' + ip.format("a", "a", "", 3)
    assert found(text + ip.format("b", "b", "", 3)) == []
    (finding,) = check_net(net(text + ip.format("b", "b", "blob_share_mode: PERMISSIVE", 5)))
    assert finding.message.endswith("expected as many values")


def test_shapes_that_are_not_known_may_be_shared():
    unknown = DATA + fully_connected("a", 3) + fully_connected("b", 3, share_mode=PERMISSIVE)
    assert found(unknown) == []


def test_caffe_refuses_to_share_what_does_not_fit(python_caffe):
    with Pycaffe(python_caffe) as pycaffe:
        assert not any(pycaffe(text) for text, _ in SHARED_MISFITS)
        assert all(pycaffe(text) for text in SHARED)


def test_stages_are_states_of_their_own():
    data = 'layer {{ name: "data" type: "Input" top: "data" include {{ {} }} }}\n'
    text = data.format("phase: TRAIN") + data.format("phase: TEST stage: 'a'")
    assert found(text + data.format("phase: TEST stage: 'b'") + CONV) == []


def test_a_breach_in_some_states_only_names_them():
    data = 'layer {{ name: "data" type: "Input" top: "{}" include {{ {} }} }}\n'
    text = data.format("data", "phase: TRAIN") + data.format("images", "phase: TEST stage: 'a'")
    assert found(text + data.format("data", "phase: TEST stage: 'b'") + CONV) == [
        "net.prototxt:4:1: error: layer 'conv': bottom 'data' is no earlier layer's top, in phase "
        "TEST, stage a [defined-bottoms]"
    ]


def test_layers_that_ask_for_several_stages_are_examined_with_all_of_them():
    relu = (
        'layer { name: "a" type: "ReLU" bottom: "dat" top: "b" include { stage: "x" stage: "y" } }'
    )
    assert [finding.rule for finding in check_net(net(DATA + relu))] == ["defined-bottoms"]


def test_many_breaches_of_a_rule_are_counted_not_listed():
    text = DATA + "".join(
        f'layer {{ name: "relu{i}" type: "ReLU" bottom: "dato{i}" top: "data{i}" }}\n'
        for i in range(3000)
    )
    findings = check_net(net(text))
    assert len(findings) == MAX_PER_RULE + 1
    assert str(findings[-1]) == "error: and 2,980 more [defined-bottoms]"
    assert sum(finding.count for finding in findings) == 3000


def test_of_many_stages_some_are_examined_and_the_number_of_all_is_told():
    text = DATA + "".join(
        f'layer {{ name: "relu{i}" type: "ReLU" bottom: "data" top: "relu{i}" '
        f'include {{ phase: TEST stage: "s{i}" }} }}\n'
        for i in range(3000)
    )
    assert found(text) == [
        "net.prototxt:1:1: warning: phase TEST has 3,000 sets of stages, 8 were examined "
        "[few-stages]"
    ]


def test_a_name_of_a_million_letters_is_compared_with_no_other():
    name = "ab" * 500_000
    text = f'layer {{ name: "a" type: "Input" top: "{name}" }}\n'
    text += f'layer {{ name: "b" type: "ReLU" bottom: "{name}c" top: "b" }}'
    (finding,) = check_net(net(text))
    assert finding.suggestion is None


@pytest.mark.parametrize("path", sorted(REWRITE.glob("*.prototxt")), ids=lambda path: path.name)
def test_nets_before_and_after_a_rewrite_break_no_rule(path):
    tree = prototxt.load(path)
    assert not [each for each in check_net(graph.build(tree, str(path))) if not each.warning]


def test_unknown_fields_past_the_limit_are_counted():
    text = DATA + "".join(f"fork_{number}: 1\n" for number in range(1005))
    made = net(text)
    assert (len(made.unknown), made.further_unknown) == (1000, 5)
    assert "unknown-field" in {finding.rule for finding in check_net(made)}
