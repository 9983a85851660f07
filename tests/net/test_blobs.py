"""Weight files that fit a net and that do not: what `check` says, and what Caffe does."""

import subprocess
from math import prod

import numpy as np
import pytest

from caffesplit.formats import caffemodel, prototxt, schema
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.net import graph
from caffesplit.net.check import check_weights

DATA = (
    'layer { name: "data" type: "Input" top: "data" top: "more"\n'
    "  input_param { shape { dim: 2 dim: 4 dim: 9 dim: 9 } } }\n"
)
MORE = 'bottom: "more"'


def layer(type_name, parameter="", more=""):
    return f'layer {{ name: "x" type: "{type_name}" bottom: "data" {more} top: "x" {parameter} }}\n'


CONV = layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }")
SIDES = layer("Convolution", "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 1 group: 2 }")
REPEATED = layer("Convolution", "convolution_param { num_output: 6 kernel_size: [3, 1] }")
DECONV = layer("Deconvolution", "convolution_param { num_output: 6 kernel_size: 3 group: 2 }")
IP = layer("InnerProduct", "inner_product_param { num_output: 5 }")
TRANSPOSED = layer("InnerProduct", "inner_product_param { num_output: 5 transpose: true }")
EMBED = layer("Embed", "embed_param { num_output: 3 input_dim: 7 }")
SCALE = layer("Scale", "scale_param { bias_term: true }")
SCALE_OF_TWO = layer("Scale", "scale_param { axis: 0 bias_term: true }", MORE)
CONT = 'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 2 dim: 4 } } }\n'
STILL = (
    'layer { name: "still" type: "Input" top: "still" input_param { shape { dim: 4 dim: 3 } } }\n'
)
RECURRENT = "recurrent_param { num_output: 5 weight_filler { type: 'xavier' } }"
LSTM = CONT + layer("LSTM", RECURRENT, 'bottom: "cont"')
RNN = CONT + layer("RNN", RECURRENT, 'bottom: "cont"')
STATIC = CONT + STILL + layer("LSTM", RECURRENT, 'bottom: "cont" bottom: "still"')
SHARED_PRELU = layer("PReLU", "prelu_param { channel_shared: true }")

FITTING = [
    (CONV, [(6, 4, 3, 3), (6,)]),
    (SIDES, [(6, 2, 3, 1), (6,)]),
    (REPEATED, [(6, 4, 3, 1), (6,)]),
    (DECONV, [(4, 3, 3, 3), (6,)]),
    (IP, [(5, 324), (5,)]),
    (TRANSPOSED, [(324, 5), (5,)]),
    (EMBED, [(7, 3), (3,)]),
    (SCALE, [(4,), (4,)]),
    (SCALE_OF_TWO, [(2, 4, 9, 9)]),
    (layer("Scale", "scale_param { num_axes: 0 }"), [()]),
    (layer("Scale", "scale_param { num_axes: -1 }"), [(4, 9, 9)]),
    (layer("Bias", "bias_param { num_axes: 2 }"), [(4, 9)]),
    (layer("Bias", "bias_param { axis: 0 }", MORE), []),
    (layer("BatchNorm"), [(4,), (4,), (1,)]),
    (layer("PReLU"), [(4,)]),
    (SHARED_PRELU, [()]),
    (layer("ReLU"), []),
    (LSTM, [(20, 81), (20,), (20, 5)]),
    (STATIC, [(20, 81), (20,), (20, 3), (20, 5)]),
    (RNN, [(5, 81), (5,), (5, 5), (5, 5), (5,)]),
]
MISFITS = [
    (CONV, [(8, 4, 3, 3), (6,)], "blob 0 in the weight file is (8, 4, 3, 3), expected (6, 4, 3"),
    (CONV, [(6, 4, 5, 5), (6,)], "blob 0 in the weight file is (6, 4, 5, 5), expected (6, 4, 3"),
    (CONV, [(6, 4, 3, 3), (4,)], "blob 1 in the weight file is (4,), expected (6,)"),
    (CONV, [(6, 4, 3, 3), ()], "blob 1 in the weight file is (), expected (6,)"),
    (CONV, [(), (6,)], "blob 0 in the weight file is (), expected (6, 4, 3, 3)"),
    (
        CONV,
        [(6, 0, 3, 3), (6,)],
        "blob 0 in the weight file is (6, 0, 3, 3), expected (6, 4, 3, 3)",
    ),
    (CONV, [(6, 4, 3, 3)], "1 blob in the weight file, expected 2"),
    (CONV, [], "0 blobs in the weight file, expected 2"),
    (CONV.replace("3 }", "3 bias_term: false }"), [(6, 4, 3, 3), (6,)], "2 blobs in the weight"),
    (SIDES, [(6, 2, 1, 3), (6,)], "is (6, 2, 1, 3), expected (6, 2, 3, 1)"),
    (REPEATED, [(6, 4, 3, 3), (6,)], "is (6, 4, 3, 3), expected (6, 4, 3, 1)"),
    (DECONV, [(4, 6, 3, 3), (6,)], "expected (4, 3, 3, 3)"),
    (DECONV, [(5, 3, 3, 3), (6,)], "expected (4, 3, 3, 3)"),
    (IP, [(324, 5), (5,)], "is (324, 5), expected (5, 324)"),
    (TRANSPOSED, [(5, 324), (5,)], "is (5, 324), expected (324, 5)"),
    (EMBED, [(6, 3), (3,)], "is (6, 3), expected (7, 3)"),
    (SCALE, [(4,), (5,)], "blob 1 in the weight file is (5,), expected (4,)"),
    (SCALE, [(4, 1), (4,)], "is (4, 1), expected (4,)"),
    (SCALE, [(4,)], "1 blob in the weight file, expected 2"),
    (layer("Bias"), [(4,), (4,)], "2 blobs in the weight file, expected 1"),
    (layer("BatchNorm"), [(4,), (4,)], "2 blobs in the weight file, expected 3"),
    (layer("BatchNorm"), [(4,), (4,), (4,)], "blob 2 in the weight file is (4,), expected (1,)"),
    (layer("BatchNorm"), [(4,), (3,), (1,)], "blob 1 in the weight file is (3,), expected (4,)"),
    (SHARED_PRELU, [(4,)], "is (4,), expected ()"),
    (layer("PReLU"), [()], "is (), expected (4,)"),
    (layer("ReLU"), [(4,)], "1 blob in the weight file, expected 0"),
    (CONV, [(6, 3, 3, 3), (6,)], "is (6, 3, 3, 3), expected (6, 4, 3, 3)"),
    (SIDES, [(6, 4, 3, 1), (6,)], "is (6, 4, 3, 1), expected (6, 2, 3, 1)"),
    (DECONV, [(6, 3, 3, 3), (6,)], "is (6, 3, 3, 3), expected (4, 3, 3, 3)"),
    (IP, [(5, 36), (5,)], "is (5, 36), expected (5, 324)"),
    (SCALE, [(5,), (4,)], "blob 0 in the weight file is (5,), expected (4,)"),
    (layer("BatchNorm"), [(2,), (4,), (1,)], "blob 0 in the weight file is (2,), expected (4,)"),
    (layer("PReLU"), [(2,)], "is (2,), expected (4,)"),
    (LSTM, [(20, 80), (20,), (20, 5)], "is (20, 80), expected (20, 81)"),
    (RNN, [(5, 81), (5,), (5, 5)], "3 blobs in the weight file, expected 5"),
    (layer("PReLU"), [(1, 1, 1, 4)], "is (1, 1, 1, 4), expected (4,)"),
]
UNKNOWN = (
    'layer { name: "data" type: "Python" top: "data" top: "more" top: "cont" top: "still" }\n\n'
)
UNKNOWN_MISFITS = [
    (CONV, [(8, 4, 3, 3), (6,)], "is (8, 4, 3, 3), expected (6, any, 3, 3)"),
    (CONV, [(6, 0, 3, 3), (6,)], "is (6, 0, 3, 3), expected (6, any, 3, 3)"),
    (DECONV, [(5, 3, 3, 3), (6,)], "is (5, 3, 3, 3), expected (a multiple of 2, 3, 3, 3)"),
    (TRANSPOSED, [(5, 324), (5,)], "is (5, 324), expected (any, 5)"),
    (SCALE, [(4,), (5,)], "blob 1 in the weight file is (5,), expected (4,)"),
    (layer("BatchNorm"), [(4,), (3,), (1,)], "blob 1 in the weight file is (3,), expected (4,)"),
    (layer("PReLU"), [()], "is (), expected (any,)"),
]
OLD = [
    (CONV, [(6, 4, 3, 3), (1, 1, 1, 6)]),
    (IP, [(1, 1, 5, 324), (1, 1, 1, 5)]),
    (TRANSPOSED, [(1, 1, 324, 5), (1, 1, 1, 5)]),
    (SCALE, [(1, 1, 1, 4), (1, 1, 1, 4)]),
    (SHARED_PRELU, [(1, 1, 1, 1)]),
]
OLD_MISFITS = [
    (CONV, [(6, 4, 3, 3), (6, 1, 1, 1)], "is (6, 1, 1, 1), expected (6,)"),
    (IP, [(5, 324, 1, 1), (1, 1, 1, 5)], "is (5, 324, 1, 1), expected (5, 324)"),
]


def net(text, data=DATA):
    return graph.build(prototxt.parse(data + text, "net.prototxt"), "net.prototxt")


def found(text, shapes, data=DATA):
    weights = {"x": [np.zeros(shape, np.float32) for shape in shapes]}
    return check_weights(net(text, data), weights)


def found_in_file(text, weights):
    stored = caffemodel.index(weights).layers
    return check_weights(net(text), {layer.name: layer.blobs for layer in stored})


def assert_one_error(findings, message):
    (finding,) = findings
    assert (finding.rule, finding.warning) == ("fitting-shapes", False)
    assert finding.at.text.startswith('layer { name: "x"')
    assert message in finding.message


@pytest.mark.parametrize(("text", "shapes"), FITTING)
def test_blobs_of_the_layers_own_shapes_fit(tmp_path, text, shapes):
    assert found_in_file(text, written(tmp_path, shapes)) == ()


@pytest.mark.parametrize(("text", "shapes"), OLD)
def test_blobs_of_old_files_fit_with_leading_ones(tmp_path, text, shapes):
    assert found_in_file(text, written_old(tmp_path, shapes)) == ()


@pytest.mark.parametrize(("text", "shapes"), FITTING + OLD)
def test_arrays_and_bottoms_of_which_less_is_known_are_given_the_benefit_of_the_doubt(text, shapes):
    assert found(text, shapes) == found(text, shapes, UNKNOWN) == ()


@pytest.mark.parametrize(("text", "shapes", "message"), MISFITS)
def test_a_blob_of_another_shape_or_number_is_one_error(tmp_path, text, shapes, message):
    assert_one_error(found_in_file(text, written(tmp_path, shapes)), message)


@pytest.mark.parametrize(("text", "shapes", "message"), OLD_MISFITS)
def test_a_blob_of_another_shape_in_an_old_file_is_one_error(tmp_path, text, shapes, message):
    assert_one_error(found_in_file(text, written_old(tmp_path, shapes)), message)


@pytest.mark.parametrize(("text", "shapes", "message"), UNKNOWN_MISFITS)
def test_what_the_layer_alone_tells_is_expected_over_unknown_bottoms_too(text, shapes, message):
    assert_one_error(found(text, shapes, UNKNOWN), message)


def test_each_blob_that_does_not_fit_is_named_with_what_is_expected():
    assert [str(finding) for finding in found(CONV, [(5, 4, 3, 3), (5,)])] == [
        "net.prototxt:3:1: error: layer 'x': blob 0 in the weight file is (5, 4, 3, 3), "
        "expected (6, 4, 3, 3) [fitting-shapes]",
        "net.prototxt:3:1: error: layer 'x': blob 1 in the weight file is (5,), "
        "expected (6,) [fitting-shapes]",
    ]


def test_over_unknown_bottoms_the_kernel_has_as_many_sides_as_the_file_where_one_size_is_given():
    assert found(CONV, [(6, 4, 3, 3, 3), (6,)], UNKNOWN) == ()
    assert found(CONV, [(6, 4, 3), (6,)], UNKNOWN) == ()


def test_shapes_of_data_may_be_given():
    given = {"data": (2, 4, 9, 9)}
    weights = {"x": [np.zeros((5, 300), np.float32), np.zeros(5, np.float32)]}
    assert check_weights(net(IP, UNKNOWN), weights) == ()
    assert_one_error(check_weights(net(IP, UNKNOWN), weights, given), "expected (5, 324)")


def test_weights_of_layers_that_the_net_has_not_are_skipped_and_missing_ones_filled():
    second = CONV.replace('"x"', '"y"')
    blobs = [np.zeros((6, 4, 3, 3), np.float32), np.zeros(6, np.float32)]
    weights = {"y": blobs, "old": [np.zeros(3, np.float32)], "old_relu": []}
    assert [str(finding) for finding in check_weights(net(CONV + second), weights)] == [
        "net.prototxt:3:1: warning: layer 'x' has no weights in the file; Caffe fills them anew "
        "[present-weights]",
        "warning: the weight file has layer 'old', the net has not; Caffe skips it [known-layers]",
    ]


def test_of_two_layers_of_one_name_weights_are_loaded_into_the_first():
    second = CONV.replace('top: "x"', 'top: "y"').replace("num_output: 6", "num_output: 9")
    assert found(CONV + second, [(6, 4, 3, 3), (6,)]) == ()


def test_layers_of_one_name_in_different_phases_must_both_fit():
    train = CONV.replace("name:", "include { phase: TRAIN } name:")
    test = CONV.replace("name:", "include { phase: TEST } name:").replace("size: 3", "size: 1")
    assert len(found(train + test, [(6, 4, 3, 3), (6,)])) == 1


def test_weights_that_fit_in_one_phase_only_are_an_error_that_names_the_other():
    data = 'layer {{ name: "data" type: "Input" top: "data" include {{ phase: {} }}\n'
    data += "  input_param {{ shape {{ dim: 2 dim: {} }} }} }}\n"
    weights = {"x": [np.zeros((5, 3), np.float32), np.zeros(5, np.float32)]}
    both = net(IP, data.format("TRAIN", 3) + data.format("TEST", 4))
    (finding,) = check_weights(both, weights)
    assert str(finding) == (
        "net.prototxt:5:1: error: layer 'x': blob 0 in the weight file is (5, 3), expected (5, 4), "
        "in phase TEST [fitting-shapes]"
    )


def test_types_whose_blobs_are_not_known_take_any():
    assert found(layer("Python"), [(1, 2)]) == ()


def loads_in_caffe(caffe, folder, text, weights):
    path = folder / "net.prototxt"
    path.write_text(DATA + text)
    command = [caffe, "test", "-model", path, "-weights", weights, "-iterations", "1"]
    return subprocess.run(command, capture_output=True).returncode == 0


def written(folder, shapes):
    blobs = tuple(np.zeros(shape, np.float32) for shape in shapes)
    caffemodel.write(folder / "new.caffemodel", [LayerWeights("x", "", blobs)])
    return folder / "new.caffemodel"


def written_old(folder, shapes):
    """As before 2014: num, channels, height, width."""
    message = schema.message_class("NetParameter")()
    layer = message.layer.add(name="x")
    for shape in shapes:
        blob = layer.blobs.add()
        blob.num, blob.channels, blob.height, blob.width = shape
        blob.data.extend([0.0] * prod(shape))
    (folder / "old.caffemodel").write_bytes(message.SerializeToString())
    return folder / "old.caffemodel"


@pytest.mark.parametrize(("text", "shapes"), FITTING)
def test_caffe_loads_what_fits(caffe, tmp_path, text, shapes):
    assert loads_in_caffe(caffe, tmp_path, text, written(tmp_path, shapes))


@pytest.mark.parametrize(("text", "shapes", "message"), MISFITS)
def test_caffe_refuses_what_does_not_fit(caffe, tmp_path, text, shapes, message):
    assert not loads_in_caffe(caffe, tmp_path, text, written(tmp_path, shapes))


@pytest.mark.parametrize(("text", "shapes"), OLD)
def test_caffe_loads_old_files_with_leading_ones(caffe, tmp_path, text, shapes):
    assert loads_in_caffe(caffe, tmp_path, text, written_old(tmp_path, shapes))


@pytest.mark.parametrize(("text", "shapes", "message"), OLD_MISFITS)
def test_caffe_refuses_old_files_of_other_shapes(caffe, tmp_path, text, shapes, message):
    assert not loads_in_caffe(caffe, tmp_path, text, written_old(tmp_path, shapes))
