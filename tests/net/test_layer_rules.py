"""Faults in one layer, which Caffe refuses as well, and the same layers without them."""

import pytest
from pycaffe_process import Pycaffe

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net

DATA = (
    'layer { name: "data" type: "Input" top: "data" top: "more"\n'
    "  input_param { shape { dim: 2 dim: 4 dim: 9 dim: 9 } } }\n"
)


def layer(type_name, rest="", blobs='bottom: "data" top: "x"'):
    return f'layer {{ name: "x" type: "{type_name}" {blobs} {rest} }}\n'


def conv(parameter, blobs='bottom: "data" top: "x"', type_name="Convolution", rest=""):
    return layer(type_name, f"{rest} convolution_param {{ {parameter} }}", blobs)


def pool(parameter):
    return layer("Pooling", f"pooling_param {{ {parameter} }}")


def eltwise(parameter):
    blobs = 'bottom: "data" bottom: "more" top: "x"'
    return layer("Eltwise", f"eltwise_param {{ {parameter} }}", blobs)


FAULTS = [
    ("typed-layers", 'layer { name: "x" bottom: "data" top: "x" }', "no type, expected one of"),
    (
        "include-or-exclude",
        layer("ReLU", "include { phase: TEST } exclude { phase: TRAIN }"),
        "`include` beside `exclude`, expected one kind",
    ),
    (
        "blob-counts",
        conv("num_output: 2 kernel_size: 3", 'top: "x"'),
        "0 bottoms, expected 1 or more",
    ),
    (
        "blob-counts",
        conv("num_output: 2 kernel_size: 3", 'bottom: "data" top: "x" top: "y"'),
        "2 tops, expected one for each of 1 bottom",
    ),
    ("blob-counts", layer("ReLU", "", 'bottom: "data"'), "0 tops, expected 1"),
    ("blob-counts", layer("Eltwise"), "1 bottom, expected 2 or more"),
    ("blob-counts", layer("SoftmaxWithLoss"), "1 bottom, expected 2"),
    ("blob-counts", layer("Silence"), "1 top, expected none"),
    ("blob-counts", layer("Accuracy", "", 'bottom: "data" bottom: "more"'), "expected 1 to 2"),
    ("fields-per-blob", layer("ReLU", "loss_weight: 1 loss_weight: 2"), "loss_weight is given 2"),
    (
        "fields-per-blob",
        layer("ReLU", "propagate_down: true propagate_down: true"),
        "propagate_down is given 2 times, expected none or one for each bottom",
    ),
    ("outputs", conv("kernel_size: 3"), "num_output is missing or 0, expected 1 or more"),
    ("outputs", conv("num_output: 0 kernel_size: 3"), "num_output is missing or 0"),
    ("outputs", layer("InnerProduct"), "num_output is missing or 0"),
    ("outputs", layer("Embed", "embed_param { num_output: 2 }"), "input_dim is missing or 0"),
    ("groups", conv("num_output: 2 kernel_size: 3 group: 0"), "group is 0, expected 1 or more"),
    ("groups", conv("num_output: 5 kernel_size: 3 group: 2"), "group 2 does not divide num_output"),
    ("kernel-sizes", conv("num_output: 2"), "no kernel_size, expected it, or kernel_h"),
    ("kernel-sizes", conv("num_output: 2", type_name="Deconvolution"), "no kernel_size"),
    (
        "kernel-sizes",
        conv("num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3"),
        "kernel_size beside kernel_h and kernel_w, expected one of the two",
    ),
    ("kernel-sizes", conv("num_output: 2 kernel_h: 3"), "a kernel size is missing or 0"),
    ("kernel-sizes", conv("num_output: 2 kernel_size: 0"), "a kernel size is missing or 0"),
    ("kernel-sizes", pool(""), "no kernel_size"),
    ("kernel-sizes", pool("kernel_h: 2"), "a kernel size is missing or 0"),
    ("kernel-sizes", pool("kernel_size: 2 kernel_h: 2 kernel_w: 2"), "kernel_size beside"),
    ("kernel-sizes", pool("kernel_size: 2 global_pooling: true"), "beside global_pooling"),
    ("strides-and-pads", conv("num_output: 2 kernel_size: 3 stride: 0"), "a stride is 0"),
    (
        "strides-and-pads",
        conv("num_output: 2 kernel_size: 3 pad: 1 pad_h: 1 pad_w: 1"),
        "pad beside pad_h and pad_w",
    ),
    (
        "strides-and-pads",
        pool("kernel_size: 2 stride: 2 stride_h: 2 stride_w: 2"),
        "stride beside stride_h and stride_w",
    ),
    ("kernel-sizes", layer("Im2col"), "no kernel_size"),
    ("strides-and-pads", pool("kernel_size: 2 stride_h: 2"), "one of stride_h and stride_w"),
    ("strides-and-pads", pool("kernel_size: 2 pad_w: 1"), "one of pad_h and pad_w"),
    ("strides-and-pads", pool("global_pooling: true stride: 2"), "beside global_pooling"),
    ("strides-and-pads", pool("global_pooling: true pad_h: 1 pad_w: 0"), "beside global_pooling"),
    (
        "strides-and-pads",
        pool("kernel_size: 2 pad: 2"),
        "pad (2, 2) with kernel (2, 2), expected less than the kernel",
    ),
    ("strides-and-pads", pool("pool: STOCHASTIC kernel_size: 2 pad: 1"), "stochastic pooling"),
    ("odd-regions", layer("LRN", "lrn_param { local_size: 4 }"), "local_size 4, expected an odd"),
    ("in-place", layer("Flatten", "", 'bottom: "data" top: "data"'), "in place on 'data'"),
    ("in-place", layer("Split", "", 'bottom: "data" top: "data" top: "x"'), "in place on 'data'"),
    (
        "blob-counts",
        layer("Filter", "", 'bottom: "data" bottom: "more" top: "x" top: "y"'),
        "2 tops, expected 1: one for each bottom but the selector",
    ),
    (
        "blob-counts",
        layer("LSTM", "recurrent_param { num_output: 2 }"),
        "1 bottom, expected 2 to 3",
    ),
    (
        "blob-counts",
        layer(
            "RNN",
            "recurrent_param { num_output: 2 expose_hidden: true }",
            'bottom: "data" bottom: "more" bottom: "data" top: "x"',
        ),
        "1 top, expected 2",
    ),
    (
        "outputs",
        layer("RNN", "", 'bottom: "data" bottom: "more" top: "x"'),
        "num_output is missing or 0",
    ),
    (
        "blob-counts",
        layer("SoftmaxWithLoss", "", 'bottom: "data" bottom: "more" top: "x" top: "prob"'),
        "2 tops, expected 0 to 1",
    ),
    (
        "fields-per-blob",
        layer("InfogainLoss", "", 'bottom: "data" bottom: "more" top: "x" top: "prob"'),
        "2 tops without loss_weight, expected one for each top",
    ),
    ("coefficients", eltwise("coeff: 1"), "1 coeff, expected none or one for each of 2 bottoms"),
    ("coefficients", eltwise("operation: PROD coeff: 1 coeff: 1"), "coeff in a product"),
    ("param-count", layer("ReLU", "param { }"), "1 `param`, expected at most 0"),
    (
        "param-count",
        conv("num_output: 2 kernel_size: 3 bias_term: false", rest="param { } param { }"),
        "2 `param`, expected at most 1",
    ),
    (
        "param-count",
        layer("BatchNorm", "param { } param { } param { } param { }"),
        "4 `param`, expected at most 3",
    ),
    ("fixed-statistics", layer("BatchNorm", "param { lr_mult: 1 }"), "lr_mult is not 0"),
    (
        "param-count",
        'layers { name: "x" type: CONVOLUTION bottom: "data" top: "x" blobs_lr: [1, 2, 3] '
        "convolution_param { num_output: 2 kernel_size: 3 } }",
        "3 `param`, expected at most 2",
    ),
    ("typed-layers", 'layers { name: "x" bottom: "data" top: "x" }', "no type"),
]
LEGAL = [
    conv("num_output: 2 kernel_size: 3", 'bottom: "data" bottom: "more" top: "x" top: "y"'),
    conv("num_output: 4 kernel_h: 3 kernel_w: 1 group: 2 stride_h: 1 stride_w: 2 pad_h: 1"),
    conv("num_output: 2 kernel_size: [3, 1] stride: 2", type_name="Deconvolution"),
    pool("global_pooling: true"),
    pool("kernel_size: 2 stride: 2"),
    pool("kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0"),
    layer("LRN", "lrn_param { local_size: 3 }"),
    layer("Pooling", "pooling_param { kernel_size: 2 }", 'bottom: "data" top: "x" top: "mask"'),
    eltwise("coeff: 1 coeff: -1"),
    layer("BatchNorm", "param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 1 }"),
    layer("BatchNorm", "param { lr_mult: 0 }"),
    layer("Scale", "param { } param { } scale_param { bias_term: true }"),
    layer(
        "Scale",
        "param { } scale_param { axis: 0 bias_term: true }",
        'bottom: "data" bottom: "more" top: "x"',
    ),
    layer("PReLU", "param { }"),
    layer("EuclideanLoss", "loss_weight: 2", 'bottom: "data" bottom: "more"'),
    layer("Parameter", "param { } parameter_param { shape { dim: 2 } }", 'top: "x"'),
    'layer { type: "ReLU" bottom: "data" top: "x" }',
]


def with_data(text):
    if not text.startswith("layers"):
        return DATA + text
    shape = "input_dim: 2 input_dim: 4 input_dim: 9 input_dim: 9\n"
    return f'input: "data" {shape}{text}'


def findings(text):
    return check_net(graph.build(prototxt.parse(with_data(text), "net.prototxt"), "net.prototxt"))


@pytest.mark.parametrize(("rule", "text", "message"), FAULTS)
def test_a_fault_of_one_layer_is_one_error_of_its_rule(rule, text, message):
    (finding,) = findings(text)
    assert (finding.rule, finding.warning) == (rule, False)
    assert message in finding.message
    assert (finding.at.line, finding.at.column) == (2 if text.startswith("layers") else 3, 1)


@pytest.mark.parametrize("text", LEGAL)
def test_a_legal_layer_breaks_no_rule(text):
    assert not [finding for finding in findings(text) if not finding.warning]


def test_a_layer_without_a_name_is_a_warning_since_caffe_runs_it():
    (finding,) = findings('layer { type: "ReLU" bottom: "data" top: "x" }')
    assert str(finding) == (
        "net.prototxt:3:1: warning: a ReLU layer without a name; weights are loaded by name "
        "[named-layers]"
    )


def test_an_old_net_of_a_forks_type_is_a_warning():
    (finding,) = findings('layers { name: "x" type: FORKS_OWN bottom: "data" top: "x" }')
    assert (finding.rule, finding.warning) == ("unknown-field", True)


@pytest.fixture(scope="module")
def pycaffe(python_caffe):
    with Pycaffe(python_caffe) as process:
        yield process


@pytest.mark.parametrize(("rule", "text", "message"), FAULTS)
def test_caffe_refuses_each_fault(pycaffe, rule, text, message):
    assert pycaffe(with_data(text)) is None


@pytest.mark.parametrize("text", LEGAL)
def test_caffe_runs_each_legal_layer(pycaffe, text):
    assert pycaffe(with_data(text))
