"""Shapes of layers with drawn options: what is inferred is what pycaffe sets up, or refuses."""

import pytest
from drawn_layers import FAMILIES, net_text
from hypothesis import given, settings
from pycaffe_process import Pycaffe

from caffesplit.formats import prototxt
from caffesplit.net import graph, shapes
from caffesplit.net.check import check_net


@pytest.fixture(scope="module")
def pycaffe(python_caffe):
    with Pycaffe(python_caffe) as process:
        yield process


def built(text):
    return graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")


def inferred(text):
    """As pycaffe answers, from the prototxt alone."""
    net = built(text)
    if any(not finding.warning for finding in check_net(net)):
        return None
    found = shapes.infer(net, phase="TEST")
    return found.partial, list(found.learned(len(net.layers) - 1))


IMAGE, SMALL, LABELS_OF_TWO = (2, 4, 9, 9), (2, 3, 9, 9), (2,)
CLASSES = (2, 5)
FAULTS = [
    ("equal-shapes", "Concat", [IMAGE, (2, 4, 8, 9)], 1, "",
     "bottoms (2, 4, 9, 9) and (2, 4, 8, 9), expected equal ones but for axis 1"),
    ("equal-shapes", "Eltwise", [IMAGE, SMALL], 1, "",
     "bottoms (2, 4, 9, 9) and (2, 3, 9, 9), expected equal shapes"),
    ("equal-shapes", "Scale", [IMAGE, (3,)], 1, "",
     "a second bottom (3,) for axis 1 and on of (2, 4, 9, 9), expected equal sizes"),
    ("equal-shapes", "EuclideanLoss", [IMAGE, SMALL], 1, "",
     "bottoms (2, 4, 9, 9) and (2, 3, 9, 9), expected as many values"),
    ("equal-shapes", "SoftmaxWithLoss", [CLASSES, (3,)], 1, "",
     "bottoms (2, 5) and (3,), expected equal first axes"),
    ("equal-shapes", "LSTM", [(3, 2, 5), (2, 3)], 1, "recurrent_param { num_output: 2 }",
     "bottoms (3, 2, 5) and (2, 3), expected (steps, streams) first"),
    ("groups", "Convolution", [SMALL], 1,
     "convolution_param { num_output: 4 kernel_size: 1 group: 2 }",
     "group 2 does not divide the 3 channels of the bottom, expected that it does"),
    ("windows", "Convolution", [IMAGE], 1,
     "convolution_param { num_output: 4 kernel_size: 13 pad: 1 }",
     "a kernel (13, 13) with pad (1, 1) on (9, 9) leaves (-1, -1), expected 1 window or more"),
    ("windows", "Convolution", [IMAGE], 1, "convolution_param { num_output: 4 kernel_size: 10 }",
     "a kernel (10, 10) with pad (0, 0) on (9, 9) leaves (0, 0), expected 1 window or more"),
    ("windows", "Pooling", [IMAGE], 1, "pooling_param { kernel_h: 10 kernel_w: 2 }",
     "a kernel (10, 2) with pad (0, 0) on (9, 9) leaves (0, 8), expected 1 window or more"),
    ("number-of-axes", "Pooling", [CLASSES], 1, "pooling_param { kernel_size: 2 }",
     "a bottom (2, 5), expected 4 axes"),
    ("number-of-axes", "Convolution", [IMAGE], 1,
     "convolution_param { num_output: 4 kernel_size: 1 stride: [1, 1, 1] }",
     "stride is given 3 times for 2 spatial axes, expected once, or once for each"),
    ("number-of-axes", "Convolution", [(2, 4, 9)], 1,
     "convolution_param { num_output: 4 kernel_h: 1 kernel_w: 1 }",
     "kernel_h and kernel_w for 1 spatial axes, expected 2"),
    ("existing-axes", "InnerProduct", [(2,)], 1, "inner_product_param { num_output: 2 }",
     "axis 1 of a blob (2,), expected -1 to 0"),
    ("existing-axes", "Softmax", [()], 1, "", "axis 1 of a blob (), expected a blob with axes"),
    ("existing-axes", "Reshape", [CLASSES], 1, "reshape_param { axis: 1 num_axes: 2 }",
     "axis 1 with num_axes 2 of a bottom (2, 5), expected such as it has"),
    ("existing-axes", "Flatten", [IMAGE], 1, "flatten_param { axis: 3 end_axis: 1 }",
     "axis 3 behind end_axis 1, expected it before or at that"),
    ("existing-axes", "Concat", [IMAGE, IMAGE], 1, "concat_param { axis: 1 concat_dim: 1 }",
     "axis beside concat_dim, expected one of the two"),
    ("slices", "Slice", [IMAGE], 3, "",
     "3 tops do not divide axis 1 of (2, 4, 9, 9), expected that they do, or slice_point"),
    ("slices", "Slice", [IMAGE], 3, "slice_param { slice_point: [2, 4] }",
     "slice_point 2, 4 on axis 1 of (2, 4, 9, 9), expected ascending ones inside it"),
    ("slices", "Slice", [IMAGE], 3, "slice_param { slice_point: 2 }",
     "1 slice_point for 3 tops, expected 2"),
    ("reshapes", "Reshape", [IMAGE], 1, "reshape_param { shape { dim: 0 dim: 5 dim: -1 } }",
     "a bottom (2, 4, 9, 9) of 648 values, expected a multiple of 10"),
    ("reshapes", "Reshape", [IMAGE], 1, "reshape_param { shape { dim: 2 dim: 81 } }",
     "a bottom (2, 4, 9, 9) reshaped to (2, 81), expected as many values"),
    ("reshapes", "Reshape", [CLASSES], 1, "reshape_param { shape { dim: 2 dim: 5 dim: 0 } }",
     "copies an axis that the bottom (2, 5) does not have"),
    ("crops", "Crop", [IMAGE, (2, 4, 5, 5)], 1, "crop_param { offset: 5 }",
     "a crop to (5, 5) at (5, 5), expected one inside (9, 9)"),
    ("labels", "SoftmaxWithLoss", [IMAGE, LABELS_OF_TWO], 1, "",
     "labels (2,) for predictions (2, 4, 9, 9) with classes on axis 1, expected 162 labels"),
    ("top-k", "Accuracy", [CLASSES, LABELS_OF_TWO], 1, "accuracy_param { top_k: 6 }",
     "top_k 6 of predictions (2, 5) for labels (2,), expected at most 5"),
    ("tiles", "Tile", [IMAGE], 1, "", "tiles is missing or 0, expected 1 or more"),
    ("pyramids", "SPP", [IMAGE], 1, "spp_param { pyramid_height: 5 }",
     "a pyramid with 8 bins on (9, 9) needs pad (4, 4), expected less than the kernel (2, 2)"),
    ("blob-size", "Tile", [IMAGE], 1, "tile_param { tiles: 2147483647 }",
     "expected no size below 0 and at most 2,147,483,647 values"),
    ("given-shapes", "DummyData", [], 2,
     "dummy_data_param { num: 1 channels: 1 height: 1 width: [1, 2, 3] }",
     "width is given 3 times for 2 tops, expected once, or once for each"),
    ("given-shapes", "MemoryData", [], 2, "memory_data_param { batch_size: 1 channels: 3 }",
     "batch_size, channels, height or width is missing or 0, expected 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "type_name", "bottoms", "tops", "rest", "message"), FAULTS)
def test_bottoms_that_do_not_fit_are_one_error_that_caffe_refuses_too(
    pycaffe, rule, type_name, bottoms, tops, rest, message
):
    text = net_text(type_name, bottoms, tops, rest)
    (finding,) = check_net(built(text))
    assert (finding.rule, finding.warning, finding.states) == (rule, False, ())
    assert finding.at.line == len(bottoms) + 1
    assert finding.message.startswith("layer 'x': ")
    assert message in finding.message
    assert pycaffe(text) is None


def same(caffes, ours):
    """Whether both refuse, or have the same shapes as far as ours are known."""
    if caffes is None or ours is None:
        return caffes is ours
    blobs, learned = caffes
    partial, ours_learned = ours
    return (
        learned == ours_learned
        and blobs.keys() - {"(automatic)"} == partial.keys()
        and all(
            len(shape) == len(blobs[name])
            and all(size in (None, caffes) for size, caffes in zip(shape, blobs[name], strict=True))
            for name, shape in partial.items()
        )
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_shapes_and_refusals_are_caffes(pycaffe, family):
    layers, examples = FAMILIES[family]

    @settings(max_examples=examples, deadline=None)
    @given(layers)
    def law(text):
        caffes, ours = pycaffe(text), inferred(text)
        assert same(caffes, ours), f"{text}\nCaffe: {caffes}\nhere:  {ours}"

    law()
