import numpy as np
import pytest

from caffesplit.errors import SplitError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.split.requirements import splittable

CONV = """layer {{
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  {extra}
  convolution_param {{ num_output: 4 kernel_size: 3 {geometry} }}
}}
"""
POOL = 'layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool" }\n'
OTHER = "\nChoose another layer."


def blobs(outputs=4, channels=2, bias=True):
    weight = np.zeros((outputs, channels, 3, 3), np.float32)
    return {"conv1": [weight, weight[:, 0, 0, 0]] if bias else [weight]}


def refusal(text, weights, name="conv1"):
    net = graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")
    with pytest.raises(SplitError) as caught:
        splittable(net, weights, name)
    lines = str(caught.value).splitlines()
    return "\n".join(line for line in lines if not line.startswith("    "))


def conv(extra="", geometry=""):
    return CONV.format(extra=extra, geometry=geometry)


def test_a_plain_convolution_can_be_split():
    net = graph.build(prototxt.parse(conv() + POOL))
    assert splittable(net, blobs(), "conv1").name == "conv1"


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        (
            conv(),
            {},
            "net.prototxt:1:1: layer 'conv1' without weights in the snapshot, expected a weight "
            "blob\nIs the snapshot of this net? `caffesplit check` compares them.",
        ),
        (
            conv("param { name: 'w' } param { name: 'b' }"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' with shared params (w, b), expected parameters of its "
            "own\nRemove `param { name: … }`, here and where it is shared, if each may have its "
            "own.",
        ),
        (
            conv("exclude { phase: TRAIN }"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1', which training never uses, expected a layer of the "
            "TRAIN phase\nWhat is not trained gains nothing from a split.",
        ),
        (
            conv("include { phase: TRAIN }") + conv(),
            blobs(),
            "net.prototxt:9:1: a second layer 'conv1' beside one in the same phase, expected one "
            "in each phase\nWeights are loaded by name: give each a name of its own.",
        ),
        (
            conv("include { phase: TRAIN }") + conv("include { phase: TEST }", "stride: 2"),
            blobs(),
            "net.prototxt:9:1: layer 'conv1' with stride 2 2, expected 1 1, as the layer of this "
            "name that is trained\nIts weights go to all layers of the name, in every phase and "
            "net.",
        ),
        (
            conv("include { phase: TRAIN }")
            + conv("include { phase: TEST }").replace("Convolution", "InnerProduct"),
            blobs(),
            "net.prototxt:9:1: layer 'conv1' with type InnerProduct, expected Convolution, as the "
            "layer of this name that is trained\nIts weights go to all layers of the name, in "
            "every phase and net.",
        ),
        (
            conv('bottom: "more" top: "also"'),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' with 2 bottoms and 2 tops, expected one of each\n"
            "A kernel that reads several blobs cannot be split; write one layer per blob first.",
        ),
        (
            conv(geometry="axis: 2"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' with axis 2, expected channels on axis 1" + OTHER,
        ),
        (
            conv("loss_weight: 1"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' with a loss_weight, expected a layer that is no loss"
            + OTHER,
        ),
        (
            conv().replace("num_output: 4", "num_output: 1"),
            blobs(outputs=1),
            "net.prototxt:1:1: layer 'conv1' with 1 kernel, expected two kernels at least, one "
            "fast and one slow" + OTHER,
        ),
        (
            conv(geometry="group: 4"),
            blobs(channels=1),
            "net.prototxt:1:1: layer 'conv1' with 1 kernel per group, expected two kernels per "
            "group at least, one fast and one slow" + OTHER,
        ),
        (
            conv(),
            blobs(outputs=8),
            "net.prototxt:1:1: layer 'conv1': blob 0 in the weight file is (8, 2, 3, 3), expected "
            "(4, any, 3, 3)\n"
            "Is the snapshot of this net? `caffesplit check` compares them.",
        ),
        (
            conv(geometry="bias_term: false"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1': 2 blobs in the weight file, expected 1\n"
            "Is the snapshot of this net? `caffesplit check` compares them.",
        ),
        (
            "layers { name: 'conv1' type: CONVOLUTION bottom: 'data' top: 'conv1' }",
            blobs(),
            "net.prototxt:1:1: layer 'conv1' in the V1 format (`layers { … }`), expected the "
            "current format (`layer { … }`)\n"
            "Upgrade the experiment first: `caffesplit upgrade EXP -o OUT`; "
            "a net alone: `caffesplit upgrade NET -o OUT`.",
        ),
    ],
)
def test_what_cannot_be_split_says_why_and_where(text, weights, message):
    assert refusal(text, weights) == message


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("pad: 1 pad: 1 pad: 1", "with pad 1, 1, 1, expected 0 or more, once or for each of its 2"),
        ("stride: 0", "with stride 0, 0, expected 1 or more, once or for each of its 2 spatial"),
        ("stride_h: 2", "with stride 2, 0, expected 1 or more, once or for each of its 2 spatial"),
        ("dilation: 0", "with dilation 0, 0, expected 1 or more, once or for each of its 2"),
        ("group: 3", "with num_output 4 in 3 groups, expected groups of one size"),
    ],
)
def test_a_geometry_that_caffe_refuses_is_refused(geometry, message):
    assert message in refusal(conv(geometry=geometry), blobs())


@pytest.mark.parametrize(
    ("type_name", "remedy"),
    [
        ("Pooling", "Other types have no form of split."),
        (
            "Deconvolution",
            "Its kernels are one per input channel; the forms take apart output channels.",
        ),
        ("Embed", "It has rows that inputs choose, no kernels."),
    ],
)
def test_another_type_of_layer_is_refused_by_its_type(type_name, remedy):
    text = conv() + POOL.replace("Pooling", type_name)
    assert refusal(text, blobs(), "pool") == (
        f"net.prototxt:9:1: layer 'pool' of type {type_name}, expected Convolution or "
        f"InnerProduct\n{remedy}"
    )


@pytest.mark.parametrize(
    "text",
    [
        conv("include { phase: TRAIN }"),
        conv("include { phase: TRAIN }") + conv("include { phase: TEST }"),
        conv("include { phase: TEST }") + conv("include { phase: TRAIN }"),
        conv("include { phase: TRAIN stage: 'a' }") + conv("exclude { stage: 'a' }"),
        conv("include { phase: TRAIN min_level: 2 }") + conv("include { phase: TEST }"),
    ],
)
def test_of_several_layers_of_a_name_the_trained_one_is_given(text):
    net = graph.build(prototxt.parse(text))
    assert splittable(net, blobs(), "conv1").is_in("TRAIN", 2, ["a"])


@pytest.mark.parametrize("shape", [(4, 5), (1, 1, 4, 5)])
def test_an_inner_product_can_be_split_from_files_old_and_new(shape):
    text = """layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
      inner_product_param { num_output: 4 bias_term: false } }"""
    net = graph.build(prototxt.parse(text))
    assert splittable(net, {"ip": [np.zeros(shape, np.float32)]}, "ip").name == "ip"


def test_a_misspelled_layer_gets_the_closest_name_and_a_strange_one_the_list():
    assert refusal(conv() + POOL, blobs(), "conv11") == (
        "net.prototxt: no layer 'conv11', expected a layer of the net\nDid you mean 'conv1'?"
    )
    assert refusal(conv() + POOL, blobs(), "xyz").endswith("Layers: conv1, pool.")


def test_a_layer_that_is_split_in_this_net_already_is_no_misspelling():
    split = POOL.replace('"pool"', '"conv11_split1"')
    assert refusal(conv() + split, blobs(), "conv11") == (
        "net.prototxt: layer 'conv11' is split in this net already, into conv11_split1, expected "
        "a layer of the net\n"
        "What was decided for 'conv11' is for the net that this one was derived from."
    )
