from pathlib import Path

import numpy as np
import pytest
from net_weights import random_weights

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.split.fold import Scope, blobs, deviation, fold

DATA = Path(__file__).parent.parent / "data" / "fold"
PAIRS = ("repvgg", "acnet", "groups", "batch_norm", "left_alone")
SIZES = {"stage1": 4 * 42, "flat": 4 * 16}


def text(name):
    return (DATA / f"{name}.prototxt").read_bytes().decode()


def unfolded(name):
    return graph.build(prototxt.parse(text(f"{name}.before"), "net.prototxt"))


def folded(name, **scope):
    net = unfolded(name)
    weights = random_weights(net, sizes=SIZES)
    return fold(net, weights, Scope(batch_norms=name == "batch_norm", **scope)), weights


@pytest.mark.parametrize("name", PAIRS)
def test_a_fold_rewrites_the_net_as_the_after_file_shows(name):
    assert str(folded(name)[0].net.tree) == text(f"{name}.after")


@pytest.mark.parametrize("name", PAIRS)
def test_a_folded_net_is_legal_and_folding_it_again_changes_nothing(name):
    result, weights = folded(name)
    assert not [finding for finding in check_net(result.net) if not finding.warning]
    weights |= {each.layer.name: blobs(each) for each in result.folded}
    again = fold(result.net, weights, Scope(batch_norms=name == "batch_norm"))
    assert again.net.tree is result.net.tree
    assert not again.folded


@pytest.mark.parametrize("name", PAIRS)
def test_a_folded_layer_computes_what_its_block_does_to_rounding(name):
    result, weights = folded(name)
    for each in result.folded:
        assert deviation(each, blobs(each), weights) < 2e-7


def test_a_wrong_kernel_deviates():
    result, weights = folded("repvgg")
    (block,) = result.folded
    kernel, bias = blobs(block)
    kernel[0, 0, 0, 0] += 0.1
    assert deviation(block, (kernel, bias), weights) > 1e-3


def test_weights_that_are_no_numbers_deviate():
    result, weights = folded("acnet")
    weights["a_square"][0][0, 0, 0, 0] = np.nan
    (block,) = result.folded
    assert not deviation(block, blobs(block), weights) <= 1e-4


def test_what_stays_says_why():
    result, _ = folded("left_alone")
    assert {each.layer.name: each.reason for each in result.left} == {
        "residual": "on its branches is layer 'relu1' (ReLU): it is not linear",
        "maximum": "it is no sum",
        "doubled": "there is no convolution on its branches",
        "inception": "one layer would have 800 weights, these have 416",
        "padded": "a padded kernel behind a bias: the padding has none",
        "watched": "on its branches 'seen' is read by 2 layers and is layer 'padded' (Eltwise): "
        "its branches stay branches",
    }


def test_statistics_with_a_factor_of_0_are_0_as_in_caffe():
    net = graph.build(prototxt.parse(text("batch_norm.before")))
    weights = random_weights(net, sizes=SIZES)
    weights["bn1"][2][:] = 0
    kernel = blobs(fold(net, weights, Scope(batch_norms=True)).folded[0])[0]
    factor = weights["scale1"][0].reshape(-1, 1, 1, 1) / np.sqrt(1e-5)
    np.testing.assert_allclose(kernel, weights["conv1"][0] * factor, rtol=1e-6)


def test_the_nets_own_eps_is_taken():
    net = graph.build(prototxt.parse(text("batch_norm.before").replace("true }", "true eps: 1 }")))
    weights = random_weights(net, sizes=SIZES)
    kernel = blobs(fold(net, weights, Scope(batch_norms=True)).folded[0])[0]
    variance = weights["bn1"][1] / weights["bn1"][2]
    factor = (weights["scale1"][0] / np.sqrt(variance + 1)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(kernel, weights["conv1"][0] * factor, rtol=1e-5)


def test_without_bn_statistics_behind_a_convolution_stay():
    net = graph.build(prototxt.parse(text("batch_norm.before")))
    assert not fold(net, random_weights(net, sizes=SIZES)).folded


CHAIN = """input: "data" input_dim: 1 input_dim: 8 input_dim: 5 input_dim: 5
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "mix" type: "Convolution" bottom: "conv" top: "mix"
  convolution_param { num_output: 4 kernel_size: 1 } }
"""


def test_a_sequence_without_branches_is_folded_only_when_asked_for():
    net = graph.build(prototxt.parse(CHAIN))
    weights = random_weights(net)
    assert not fold(net, weights).folded
    (layer,) = (each.layer for each in fold(net, weights, Scope(chains=True)).folded)
    assert (layer.name, layer.tops) == ("conv", ("mix",))


def test_a_sequence_through_a_bottleneck_stays_it_has_fewer_weights():
    net = graph.build(prototxt.parse(CHAIN.replace("num_output: 4", "num_output: 64")))
    result = fold(net, random_weights(net), Scope(chains=True))
    assert [each.reason for each in result.left] == [
        "one layer would have 4,608 weights, these have 1,088"
    ]


def test_layers_to_keep_are_kept_with_all_that_needs_them():
    net = graph.build(prototxt.parse(text("repvgg.before")))
    result = fold(net, random_weights(net, sizes=SIZES), kept=["stage1/conv1x1"])
    assert not result.folded
    assert [each.reason for each in result.left] == [
        "on its branches is layer 'stage1/conv1x1' (Convolution): "
        "another net of the experiment needs it as it is"
    ]


BRANCHES = """layer {{ name: "x_a" type: "Convolution" bottom: "{bottom}" top: "x_a"
  include {{ phase: {phase} }} convolution_param {{ num_output: 2 kernel_size: 3 }} }}
layer {{ name: "x_b" type: "Convolution" bottom: "{bottom}" top: "x_b"
  include {{ phase: {other} }} convolution_param {{ num_output: 2 kernel_size: 3 }} }}
layer {{ name: "x_sum" type: "Eltwise" bottom: "x_a" bottom: "x_b" top: "x"
  include {{ phase: {phase} }} }}
"""
INPUTS = 'input: "data" input: "other" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 5\n'


def in_phases(**bottoms):
    blocks = (
        BRANCHES.format(bottom=bottom, phase=phase, other=phase)
        for phase, bottom in bottoms.items()
    )
    return graph.build(prototxt.parse(INPUTS + "".join(blocks)))


def test_each_phase_has_its_blocks_of_the_same_names_folded():
    net = in_phases(TRAIN="data", TEST="other")
    result = fold(net, random_weights(net))
    assert [(each.layer.name, each.layer.phases) for each in result.folded] == [
        ("x", ("TRAIN",)),
        ("x", ("TEST",)),
    ]
    assert [layer.bottoms for layer in result.net.layers] == [("data",), ("other",)]


def test_a_branch_of_another_phase_keeps_its_block():
    net = graph.build(
        prototxt.parse(INPUTS + BRANCHES.format(bottom="data", phase="TRAIN", other="TEST"))
    )
    (left,) = fold(net, random_weights(net)).left
    assert left.reason.startswith("on its branches ")
