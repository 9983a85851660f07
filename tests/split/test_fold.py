from pathlib import Path

import numpy as np
import pytest
from net_weights import random_weights

from caffesplit.errors import NetError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.split.fold import Scope, blobs, deviation, fold
from caffesplit.split.fold_text import stem

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
        "it is not the same in all nets and phases"
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


def single(text, **scope):
    net = graph.build(prototxt.parse(text))
    sizes = {top: 20 for layer in net.layers for top in layer.tops}
    return fold(net, random_weights(net, sizes=sizes), Scope(**scope))


CONV = """layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}" {more}
  convolution_param {{ num_output: 3 kernel_size: {kernel} pad: {pad} }} }}
"""
SUM = 'layer {{ name: "s" type: "Eltwise" bottom: "c_3" bottom: "c_1" top: "s" {more} }}\n'
IMAGE = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6\n'


def two_branches(first="", second="", joined=""):
    return (
        IMAGE
        + CONV.format(name="c_3", kernel=3, pad=1, more=first)
        + CONV.format(name="c_1", kernel=1, pad=0, more=second)
        + SUM.format(more=joined)
    )


def test_two_plain_branches_are_one_layer():
    assert [each.layer.name for each in single(two_branches()).folded] == ["c"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"joined": "loss_weight: 1"}, "it has a loss_weight or propagate_down of its own"),
        ({"first": "propagate_down: false"}, "propagate_down differs between its branches"),
        (
            {"joined": 'exclude { stage: "deploy" }'},
            "on its branches is layer 'c_3' (Convolution), in other phases and is layer 'c_1' "
            "(Convolution), in other phases",
        ),
    ],
)
def test_what_a_single_layer_cannot_say_keeps_its_block(given, reason):
    result = single(two_branches(**given))
    assert not result.folded
    assert result.left[0].reason == reason


def test_a_reader_that_is_there_at_a_level_only_keeps_the_block():
    reader = 'layer { name: "r" type: "ReLU" bottom: "c_1" top: "r" include { min_level: 1 } }\n'
    result = single(two_branches() + reader)
    assert not result.folded
    assert "'c_1' is read by 2 layers" in result.left[0].reason


def test_blocks_of_two_stages_with_the_same_names_are_folded_each_for_itself():
    rules = [f'include {{ stage: "{stage}" }}' for stage in "xy"]
    blocks = [two_branches(rule, rule, rule).removeprefix(IMAGE) for rule in rules]
    result = single(IMAGE + "".join(blocks))
    assert [each.layer.name for each in result.folded] == ["c", "c"]
    assert len(result.net.layers) == 2


def test_an_inner_product_behind_a_convolution_stays_one():
    text = IMAGE + CONV.format(name="c", kernel=6, pad=0, more="")
    text += 'layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"\n'
    text += "  inner_product_param { num_output: 2 } }\n"
    net = graph.build(prototxt.parse(text))
    result = fold(net, random_weights(net), Scope(chains=True))
    assert [each.reason for each in result.left] == [
        "Convolution and InnerProduct do not become one layer"
    ]


def test_statistics_on_another_axis_than_an_inner_products_outputs_stay():
    text = 'input: "data" input_shape { dim: 2 dim: 5 dim: 3 }\n'
    text += 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"\n'
    text += "  inner_product_param { num_output: 5 axis: 2 } }\n"
    text += 'layer { name: "bn" type: "BatchNorm" bottom: "ip" top: "bn" }\n'
    net = graph.build(prototxt.parse(text))
    five = np.ones(5, np.float32)
    weights = {"ip": [np.ones((5, 3), np.float32), five], "bn": [five, five, five[:1]]}
    result = fold(net, weights, Scope(batch_norms=True))
    assert [each.reason for each in result.left] == ["its layers work on axes 1 and 2"]


def test_a_net_in_the_v1_format_has_to_be_upgraded_first():
    net = graph.build(
        prototxt.parse('layers { name: "r" type: RELU bottom: "a" top: "b" }', "old.prototxt")
    )
    with pytest.raises(NetError) as caught:
        fold(net, {})
    assert str(caught.value).startswith("old.prototxt:1:1: a net in the V1 format, expected ")
    assert "caffesplit upgrade" in str(caught.value)


def test_a_depthwise_convolution_with_statistics_takes_no_more_than_its_groups():
    count = 600
    text = f'input: "data" input_dim: 1 input_dim: {count} input_dim: 4 input_dim: 4\n'
    text += 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {\n'
    text += f"  num_output: {count} group: {count} kernel_size: 3 bias_term: false }} }}\n"
    text += 'layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }\n'
    net = graph.build(prototxt.parse(text))
    weights = random_weights(net)
    (folded_layer,) = fold(net, weights, Scope(batch_norms=True)).folded
    kernel, _ = blobs(folded_layer)
    assert kernel.shape == (count, 1, 3, 3)


def test_factors_of_0_do_not_change_the_groups():
    net = graph.build(prototxt.parse(text("batch_norm.before")))
    weights = random_weights(net, sizes=SIZES)
    weights["scale1"][0][:] = 0
    result = fold(net, weights, Scope(batch_norms=True))
    assert str(result.net.tree) == text("batch_norm.after")


@pytest.mark.parametrize("name", ["conv_", "a-", "x.", "c__", "/x/", "_", "...", "a/b", "x"])
def test_what_split_names_have_in_common_is_the_base_name(name):
    ends = ("split1", "split2", "split2_residual_pre", "split2_residual_post", "reorder")
    assert stem([f"{name}_{end}" for end in ends]) == name
