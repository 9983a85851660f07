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
]
MISFITS = [
    (CONV, [(8, 4, 3, 3), (6,)], "blob 0 in the weight file is (8, 4, 3, 3), expected (6, any, 3"),
    (CONV, [(6, 4, 5, 5), (6,)], "blob 0 in the weight file is (6, 4, 5, 5), expected (6, any, 3"),
    (CONV, [(6, 4, 3, 3), (4,)], "blob 1 in the weight file is (4,), expected (6,)"),
    (CONV, [(6, 4, 3, 3), ()], "blob 1 in the weight file is (), expected (6,)"),
    (CONV, [(), (6,)], "blob 0 in the weight file is (), expected (6, any, 3, 3)"),
    (CONV, [(6, 0, 3, 3), (6,)], "blob 0 in the weight file is (6, 0, 3, 3), expected (6, any"),
    (CONV, [(6, 4, 3, 3)], "1 blob in the weight file, expected 2"),
    (CONV, [], "0 blobs in the weight file, expected 2"),
    (CONV.replace("3 }", "3 bias_term: false }"), [(6, 4, 3, 3), (6,)], "2 blobs in the weight"),
    (SIDES, [(6, 2, 1, 3), (6,)], "is (6, 2, 1, 3), expected (6, any, 3, 1)"),
    (REPEATED, [(6, 4, 3, 3), (6,)], "is (6, 4, 3, 3), expected (6, any, 3, 1)"),
    (DECONV, [(4, 6, 3, 3), (6,)], "expected (a multiple of 2, 3, 3, 3)"),
    (DECONV, [(5, 3, 3, 3), (6,)], "expected (a multiple of 2, 3, 3, 3)"),
    (IP, [(324, 5), (5,)], "is (324, 5), expected (5, any)"),
    (TRANSPOSED, [(5, 324), (5,)], "is (5, 324), expected (any, 5)"),
    (EMBED, [(6, 3), (3,)], "is (6, 3), expected (7, 3)"),
    (SCALE, [(4,), (5,)], "blob 1 in the weight file is (5,), expected (4,)"),
    (SCALE, [(4, 1), (4,)], "is (4, 1), expected (any,)"),
    (SCALE, [(4,)], "1 blob in the weight file, expected 2"),
    (layer("Bias"), [(4,), (4,)], "2 blobs in the weight file, expected 1"),
    (layer("BatchNorm"), [(4,), (4,)], "2 blobs in the weight file, expected 3"),
    (layer("BatchNorm"), [(4,), (4,), (4,)], "blob 2 in the weight file is (4,), expected (1,)"),
    (layer("BatchNorm"), [(4,), (3,), (1,)], "blob 1 in the weight file is (3,), expected (4,)"),
    (SHARED_PRELU, [(4,)], "is (4,), expected ()"),
    (layer("PReLU"), [()], "is (), expected (any,)"),
    (layer("ReLU"), [(4,)], "1 blob in the weight file, expected 0"),
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
    (IP, [(5, 324, 1, 1), (1, 1, 1, 5)], "is (5, 324, 1, 1), expected (5, any)"),
]


def net(text):
    return graph.build(prototxt.parse(DATA + text, "net.prototxt"), "net.prototxt")


def found(text, shapes):
    weights = {"x": [np.zeros(shape, np.float32) for shape in shapes]}
    return check_weights(net(text), weights)


@pytest.mark.parametrize(("text", "shapes"), FITTING + OLD)
def test_blobs_of_the_layers_own_shapes_fit(text, shapes):
    assert found(text, shapes) == ()


@pytest.mark.parametrize(("text", "shapes", "message"), MISFITS + OLD_MISFITS)
def test_a_blob_of_another_shape_or_number_is_one_error(text, shapes, message):
    (finding,) = found(text, shapes)
    assert (finding.rule, finding.warning, finding.at.line) == ("fitting-shapes", False, 3)
    assert message in finding.message


def test_each_blob_that_does_not_fit_is_named_with_what_is_expected():
    assert [str(finding) for finding in found(CONV, [(5, 4, 3, 3), (5,)])] == [
        "net.prototxt:3:1: error: layer 'x': blob 0 in the weight file is (5, 4, 3, 3), "
        "expected (6, any, 3, 3) [fitting-shapes]",
        "net.prototxt:3:1: error: layer 'x': blob 1 in the weight file is (5,), "
        "expected (6,) [fitting-shapes]",
    ]


def test_the_kernel_has_as_many_sides_as_the_file_where_one_size_stands_for_all():
    assert found(CONV, [(6, 4, 3, 3, 3), (6,)]) == ()
    assert found(CONV, [(6, 4, 3), (6,)]) == ()


def test_weights_of_layers_that_the_net_has_not_are_skipped_and_missing_ones_filled():
    weights = {"old": [np.zeros(3, np.float32)], "old_relu": []}
    assert [str(finding) for finding in check_weights(net(CONV), weights)] == [
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


def test_types_whose_blobs_are_not_known_take_any():
    assert found(layer("Python"), [(1, 2)]) == found(layer("LSTM"), [(3,)]) == ()


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
