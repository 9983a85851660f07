"""Notebook 003's first multi-split of ALL-CNN-C, layer by layer."""

import numpy as np

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, rewrite_weights, split

LAYERS = {
    "conv1": (96, 3, 3, 1),
    "conv2": (96, 96, 3, 1),
    "conv3": (96, 96, 3, 2),
    "conv4": (192, 96, 3, 1),
    "conv5": (192, 192, 3, 1),
    "conv6": (192, 192, 3, 2),
    "conv7": (192, 192, 3, 1),
    "conv8": (192, 192, 1, 1),
    "conv9": (10, 192, 1, 1),
}
"""Outputs, inputs, kernel size, stride (arXiv:1412.6806, table 1; widths as in the notebook)."""

LISTING = """
('conv1_split2_residual_post', 48, 2304) 1.9674680351
('conv2_split2_residual_post', 48, 2304) 1.80190424164
('conv1_split2_residual_pre', 48, 1296) 1.79701327343
('conv1_split2', 48, 1296) 1.51701696211
('conv8_split2_residual_post', 96, 9216) 1.45334650011
('conv8_reorder', 192, 36864) 1.42802929202
('conv2_split2', 48, 41472) 1.37169967084
('conv2_split1', 48, 41472) 1.29607066612
('conv1_split1', 48, 1296) 1.16915123746
('conv9', 10, 1920) 1.16828245018
('conv2_reorder', 96, 9216) 1.16055723552
('conv1_reorder', 96, 9216) 1.15076124461
('conv2_split2_residual_pre', 48, 41472) 0.949742446651
('conv3', 96, 82944) 0.825414507069
('conv8_split1', 96, 18432) 0.811380009578
('conv8_split2', 96, 18432) 0.767344270675
('conv8_split2_residual_pre', 96, 18432) 0.723908646299
('conv7', 192, 331776) 0.657418801849
('conv5', 192, 331776) 0.356101654402
('conv4', 192, 165888) 0.302376762507
('conv6', 192, 331776) 0.247670367379
"""
"""As the notebook prints it: name, outputs, weights, entropy."""


def test_splitting_conv1_conv2_and_conv8_gives_the_layers_of_the_notebooks_second_listing():
    bottom, text, weights = "data", 'input: "data" input_dim: [128, 3, 32, 32]\n', {}
    for name, (outputs, inputs, kernel, stride) in LAYERS.items():
        text += (
            f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"\n'
            f"  convolution_param {{ num_output: {outputs} kernel_size: {kernel} "
            f"stride: {stride} pad: {kernel // 2} }} }}\n"
            f'layer {{ name: "relu{name[4:]}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
        )
        bottom = name
        kernels = np.zeros((outputs, inputs, kernel, kernel), np.float32)
        weights[name] = [kernels, np.zeros(outputs, np.float32)]
    net = graph.build(prototxt.parse(text))
    halves = {name: LAYERS[name][0] // 2 for name in ("conv1", "conv2", "conv8")}
    layers = tuple(
        LayerPlan(name, "residual", "half", tuple(range(half)), tuple(range(half, 2 * half)))
        for name, half in halves.items()
    )
    change = split(net, weights, Plan(layers, (115000, 130000), (115000, 130000)), Setting())
    derived = rewrite_net(net, change)
    for name, records in rewrite_weights(derived, change).items():
        del weights[name]
        weights |= {record.name: record.blobs for record in records if record.blobs}

    found = {
        (layer.name, layer.message.convolution_param.num_output, weights[layer.name][0].size)
        for layer in derived.layers
        if layer.name in weights
    }

    lines = LISTING.strip().splitlines()
    expected = {tuple(line[1 : line.index(")")].split(", ")) for line in lines}
    assert len(lines) == len(found) == 21
    assert found == {(name.strip("'"), int(outputs), int(size)) for name, outputs, size in expected}
