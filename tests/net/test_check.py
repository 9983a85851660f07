import numpy as np
import pytest

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net, check_weights

DATA = 'layer { name: "data" type: "Input" top: "data" }\n'
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
    "  convolution_param { num_output: 4 kernel_size: 3 } }\n"
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
            "net.prototxt:2:1: error: layer 'a': bottom 'dat' is no earlier layer's top in phase "
            "TRAIN; did you mean 'data'? [defined-bottoms]",
        ),
        (
            DATA + 'layer { name: "b" type: "ReLU" bottom: "data" top: "c" }\n'
            'layer { name: "c" type: "ReLU" bottom: "data" top: "c" }',
            "net.prototxt:3:1: error: layer 'c': top 'c' is an earlier layer's top already "
            "[single-producers]",
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
            DATA + CONV.replace("kernel_size", "kernal_size"),
            "net.prototxt:3:37: warning: ConvolutionParameter has no 'kernal_size' in BVLC Caffe; "
            "did you mean kernel_size? [unknown-field]",
        ),
    ],
)
def test_each_rule_reports_its_breach_once_with_its_place(text, finding):
    assert found(text) == [finding]


def test_layers_of_different_phases_may_share_names_and_tops():
    both = 'layer {{ name: "data" type: "Data" top: "data" include {{ phase: {} }} }}\n'
    assert found(both.format("TRAIN") + both.format("TEST") + CONV) == []


def test_stages_are_states_of_their_own():
    data = 'layer {{ name: "data" type: "Data" top: "data" include {{ {} }} }}\n'
    text = data.format("phase: TRAIN") + data.format("phase: TEST stage: 'a'")
    assert found(text + data.format("phase: TEST stage: 'b'") + CONV) == []


def test_weights_that_fit_have_no_findings():
    weights = {"conv": [np.zeros((4, 2, 3, 3), np.float32), np.zeros(4, np.float32)]}
    assert check_weights(net(DATA + CONV), weights) == ()


def test_weights_of_another_net_are_reported():
    weights = {"conv": [np.zeros((8, 2, 3, 3), np.float32)], "old": [np.zeros(3, np.float32)]}
    assert [str(finding) for finding in check_weights(net(DATA + CONV), weights)] == [
        "net.prototxt:2:1: error: layer 'conv': num_output is 4, the weight file has 8 "
        "(shape (8, 2, 3, 3)) [fitting-shapes]",
        "warning: the weight file has layer 'old', the net has not; Caffe skips it [known-layers]",
    ]
    assert [str(finding) for finding in check_weights(net(DATA + CONV), {})] == [
        "net.prototxt:2:1: warning: layer 'conv' has no weights in the file; Caffe fills them anew "
        "[present-weights]"
    ]


def test_a_grouped_deconvolution_has_its_outputs_on_the_second_axis():
    text = DATA + CONV.replace("Convolution", "Deconvolution").replace(
        "kernel_size: 3", "kernel_size: 3 group: 2"
    )
    fitting = {"conv": [np.zeros((6, 2, 3, 3), np.float32)]}
    assert check_weights(net(text), fitting) == ()
