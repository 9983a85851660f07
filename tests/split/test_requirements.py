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
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip" }\n'
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
    net = graph.build(prototxt.parse(conv() + IP))
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
            conv("include { phase: TRAIN }"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' used in TRAIN only, expected a layer that both phases "
            "use\nIts split would be trained but not tested, or the reverse.",
        ),
        (
            conv("exclude { phase: TRAIN }"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' used in TEST only, expected a layer that both phases "
            "use\nIts split would be trained but not tested, or the reverse.",
        ),
        (
            conv("include { phase: TRAIN }") + conv("include { phase: TEST }"),
            blobs(),
            "net.prototxt:9:1: 2 layers named 'conv1', one per phase, expected one layer that both "
            "phases use" + OTHER,
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
            "net.prototxt:1:1: layer 'conv1' with axis 2, expected channels on axis 1, no loss"
            + OTHER,
        ),
        (
            conv("loss_weight: 1"),
            blobs(),
            "net.prototxt:1:1: layer 'conv1' with a loss_weight, expected channels on axis 1, no "
            "loss" + OTHER,
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
            "Upgrade the net first: Caffe's upgrade_net_proto_text does it.",
        ),
    ],
)
def test_what_cannot_be_split_says_why_and_where(text, weights, message):
    assert refusal(text, weights) == message


def test_another_type_of_layer_is_refused_by_its_type():
    assert refusal(conv() + IP, blobs(), "ip") == (
        "net.prototxt:9:1: layer 'ip' of type InnerProduct, expected a Convolution\n"
        "Other types have no form of split."
    )


def test_a_misspelled_layer_gets_the_closest_name_and_a_strange_one_the_list():
    assert refusal(conv() + IP, blobs(), "conv11") == (
        "net.prototxt: no layer 'conv11', expected a layer of the net\nDid you mean 'conv1'?"
    )
    assert refusal(conv() + IP, blobs(), "xyz").endswith("Layers: conv1, ip.")
