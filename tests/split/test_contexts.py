"""Layers as they stand in people's nets: what is around them neither changes nor breaks."""

import numpy as np
import pytest

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, split

HEAD = """name: "Context"  # as people write it
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 9 } } }
"""  # noqa: E501
X = """layer {
  name: "X" type: "Convolution" bottom: "%s" top: "x"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 }
}
"""
CONTEXTS = {
    "in-place layers behind it": (
        X % "data",
        """layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "drop" type: "Dropout" bottom: "x" top: "x" }
        layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
          inner_product_param { num_output: 2 } }
""",
    ),
    "BatchNorm and Scale": (
        X % "data",
        """layer { name: "bn" type: "BatchNorm" bottom: "x" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
""",
    ),
    "several readers": (
        X % "data",
        """layer { name: "one" type: "Pooling" bottom: "x" top: "one"
  pooling_param { kernel_size: 2 } }
layer { name: "other" type: "Pooling" bottom: "x" top: "other" pooling_param { kernel_size: 3 } }
layer { name: "third" type: "Eltwise" bottom: "x" bottom: "x" top: "third" }
""",
    ),
    "Inception": (
        """# 1×1
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param {
  num_output: 2 kernel_size: 1 } }
layer { name: "relu_a" type: "ReLU" bottom: "a" top: "a" }
# 3×3
"""
        + X % "a",
        """layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
# pool
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "out" type: "Concat" bottom: "a" bottom: "x" bottom: "pool" top: "out" }
""",
    ),
    "ResNet": (
        """layer { name: "res1" type: "Convolution" bottom: "data" top: "res1"
  convolution_param { num_output: 4 kernel_size: 1 bias_term: false } }
layer { name: "bn1" type: "BatchNorm" bottom: "res1" top: "res1" }
layer { name: "relu1" type: "ReLU" bottom: "res1" top: "res1" }
"""
        + X % "res1",
        """layer { name: "bn2" type: "BatchNorm" bottom: "x" top: "x" }
layer { name: "scale2" type: "Scale" bottom: "x" top: "x" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "res1" bottom: "x" top: "sum" }
layer { name: "relu2" type: "ReLU" bottom: "sum" top: "sum" }
""",
    ),
    "an auxiliary head that only training has": (
        X.replace("layer {", "layer { include { phase: TRAIN }") % "data",
        """layer { name: "relu" type: "ReLU" bottom: "x" top: "x" include { phase: TRAIN } }
layer { name: "silence" type: "Silence" bottom: "x" include { phase: TRAIN } }
layer { name: "other" type: "ReLU" bottom: "data" top: "other" }
""",
    ),
    "in front of another of its kind, in one line": (
        (X % "data").replace("\n", " "),
        'layer { name: "Y" type: "Convolution" bottom: "x" top: "y" convolution_param '
        "{ num_output: 2 kernel_size: 3 } }",
    ),
}


@pytest.mark.parametrize("method", ["extension", "residual", "skip"])
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_text_around_a_split_stays_and_the_net_is_legal(context, method):
    before, behind = CONTEXTS[context]
    text = HEAD + before + behind
    net = graph.build(prototxt.parse(text))
    (x,) = net.named("X")
    channels = {"data": 3, "a": 2, "res1": 4}[x.bottoms[0]]
    weights = {"X": [np.ones((4, channels, 3, 3), np.float32), np.ones(4, np.float32)]}
    plan = Plan((LayerPlan("X", method, "half", (0, 3), (1, 2)),), (0, 1), (0, 1))

    derived = rewrite_net(net, split(net, weights, plan, Setting()))

    around = str(net.tree).split(str(x.field).strip())
    assert str(derived.tree).startswith(around[0])
    assert str(derived.tree).endswith(around[1])
    assert check_net(net) == check_net(derived) == ()
    readers = [layer.name for layer in net.layers if "x" in layer.bottoms]
    assert readers == [layer.name for layer in derived.layers if "x" in layer.bottoms]
