"""A net's wiring, sharing and weights: as the real Caffe has them."""

import numpy as np
import pytest
import torch
from torch_oracle import assert_as_caffe, inputs_of, layers_of, run_torch

from caffesplit.engines.torch_data import SOURCES
from caffesplit.engines.torch_layers import ABSENT, DATA_TYPES, LAYERS
from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError, WeightsError
from caffesplit.formats import prototxt, schema
from caffesplit.net import graph
from caffesplit.net.check import check_net


def layer(name, type_name, bottoms="", tops="", rest=""):
    names = [f'bottom: "{each}"' for each in bottoms.split()]
    names += [f'top: "{each}"' for each in tops.split()]
    return f'layer {{ name: "{name}" type: "{type_name}" {" ".join(names)} {rest} }}\n'


def data(name, *shape):
    sizes = " ".join(f"dim: {size}" for size in shape)
    return layer(name, "Input", "", name, f"input_param {{ shape {{ {sizes} }} }}")


def inner_product(name, bottom, top, num_output=3, rest=""):
    return layer(
        name,
        "InnerProduct",
        bottom,
        top,
        f"inner_product_param {{ num_output: {num_output} }} {rest}",
    )


def net_of(text, phase="TRAIN", **options):
    layers = layers_of(text, phase)
    return TorchNet(layers, phase, inputs_of(layers), **options)


DATA = data("data", 4, 3) + data("label", 4)
LOSS = layer("loss", "SoftmaxWithLoss", "b label", "loss")


def classes(rng, name, shape):
    return rng.integers(0, 3, shape) if name == "label" else None


def test_a_blob_that_several_layers_read_gets_the_sum_of_their_gradients(real_caffe):
    text = DATA + inner_product("one", "data", "a") + inner_product("two", "a", "b")
    text += LOSS + layer("sum", "Eltwise", "a a b", "c", "loss_weight: 0.5")
    assert_as_caffe(real_caffe, text, values=classes)


def test_layers_in_place_follow_one_another_by_name(real_caffe):
    text = DATA + inner_product("one", "data", "b")
    text += layer("scale", "Scale", "b", "b", "scale_param { bias_term: true }")
    text += layer("relu", "ReLU", "b", "b") + LOSS
    assert_as_caffe(real_caffe, text, values=classes)


def test_a_layer_in_place_leaves_the_tensors_alone_that_come_in():
    net = net_of(DATA + layer("relu", "ReLU", "data", "data"))
    batch = {"data": torch.full((4, 3), -1.0), "label": torch.zeros(4)}
    outputs = net.forward(batch, keep=True)
    assert outputs.kept["data"].sum() == 0
    assert batch["data"].sum() == -12


@pytest.mark.parametrize("stopped", ["true false", "false true", "false false"])
def test_propagate_down_stops_the_gradient_of_a_bottom(real_caffe, stopped):
    flags = " ".join(f"propagate_down: {flag}" for flag in stopped.split())
    text = DATA + inner_product("one", "data", "a") + inner_product("two", "data", "c")
    text += layer("sum", "Eltwise", "a c", "b", flags) + LOSS
    text += layer("other", "Power", "a", "d", "loss_weight: 2")
    assert_as_caffe(real_caffe, text, values=classes)


def test_a_blob_with_lr_mult_0_has_no_gradient(real_caffe):
    text = DATA + inner_product(
        "one", "data", "a", rest="param { lr_mult: 0 } param { lr_mult: 2 }"
    )
    text += inner_product("two", "a", "b", rest="param { decay_mult: 0.5 }") + LOSS
    assert_as_caffe(real_caffe, text, values=classes)
    parameters = net_of(text).parameters
    assert [(each.name, each.lr_mult, each.decay_mult) for each in parameters] == [
        ("one[0]", 0, 1), ("one[1]", 2, 1), ("two[0]", 1, 0.5), ("two[1]", 1, 1),
    ]  # fmt: skip
    assert [each.tensor.requires_grad for each in parameters] == [False, True, True, True]
    forced = net_of(text, force_backward=True).parameters
    assert all(each.tensor.requires_grad for each in forced)


SIAMESE = 'param { name: "w" lr_mult: 2 } param { name: "b" }'


def test_layers_share_blobs_by_the_names_of_their_params(real_caffe):
    text = DATA + inner_product("one", "data", "a", rest=SIAMESE)
    text += inner_product(
        "two", "a", "b", rest='param { name: "w" } param { name: "b" decay_mult: 0 }'
    )
    text += LOSS
    net = net_of(text)
    assert [(each.name, each.lr_mult, each.decay_mult) for each in net.parameters] == [
        ("one[0]", 2, 1), ("one[1]", 1, 0),
    ]  # fmt: skip
    assert net.blobs["two"][0] is net.blobs["one"][0]
    ours = run_torch(text, np.random.default_rng(0), classes)
    theirs = real_caffe(text, ours.given)
    for name, diff in theirs.diffs.items():
        np.testing.assert_allclose(ours.diffs[name], diff, rtol=1e-5, atol=1e-6)


def test_a_permissive_share_may_have_another_shape():
    rest = 'param { name: "w" share_mode: PERMISSIVE } inner_product_param { bias_term: false '
    text = data("data", 4, 6) + layer("one", "InnerProduct", "data", "a", rest + "num_output: 2 }")
    text += layer("pair", "Reshape", "data", "p", "reshape_param { shape { dim: 12 dim: 2 } }")
    text += layer("two", "InnerProduct", "p", "c", rest + "num_output: 6 }")
    net = net_of(text)
    assert len(net.parameters) == 1
    assert [tuple(net.blobs[name][0].shape) for name in ("one", "two")] == [(2, 6), (6, 2)]
    for _ in range(2):
        kept = net.forward({"data": torch.ones(4, 6)}, keep=True).kept
        (kept["a"].sum() + kept["c"].sum()).backward()
        weight = net.parameters[0].tensor
        torch.testing.assert_close(weight.grad, torch.full((2, 6), 16.0))
        with torch.no_grad():
            weight -= weight.grad
        weight.grad = None
    assert torch.equal(net.blobs["two"][0].flatten(), net.blobs["one"][0].flatten())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('param { name: "w" } param { name: "b" }',
         "layer 'two': shares 'b' as (2,), which layer 'one' has as (3,), expected equal shapes"),
        ('param { name: "x" } param { name: "b" share_mode: PERMISSIVE }',
         "layer 'two': shares 'b' as (2,), which layer 'one' has as (3,), expected as many values"),
        ('param { name: "x" } param { name: "x" lr_mult: 3 }',
         "layer 'two': shares 'x' as (2,), which layer 'two' has as (2, 3), expected equal shapes"),
    ],
)  # fmt: skip
def test_blobs_that_do_not_fit_are_not_shared(second, message):
    text = DATA + inner_product("one", "data", "a", rest='param { name: "v" } param { name: "b" }')
    text += inner_product("two", "a", "b", 2, second)
    with pytest.raises(NetError) as refused:
        net_of(text)
    assert str(refused.value).splitlines()[0] == f"net.prototxt:4:1: {message}"


def test_a_shared_blob_has_one_lr_mult():
    text = DATA + inner_product("one", "data", "a", rest='param { name: "w" lr_mult: 1 }')
    text += inner_product("two", "a", "b", rest='param { name: "w" lr_mult: 3 }')
    with pytest.raises(NetError) as refused:
        net_of(text)
    assert str(refused.value).splitlines()[0] == (
        "net.prototxt:4:1: layer 'two': lr_mult 3 of the shared 'w', "
        "expected 1, as layer 'one' has it"
    )


def test_outputs_are_the_blobs_that_no_layer_reads_sorted(real_caffe):
    text = data("z", 2, 3) + DATA + inner_product("one", "data", "b")
    text += LOSS + layer("accuracy", "Accuracy", "b label", "accuracy")
    text += layer("more", "Power", "b", "Power")
    assert_as_caffe(real_caffe, text, values=classes)
    net = net_of(text)
    batch = {"z": torch.ones(2, 3), "data": torch.ones(4, 3), "label": torch.zeros(4)}
    outputs = net.forward(batch)
    assert [(name, weight) for name, _, weight in outputs.values] == [
        ("Power", 0), ("accuracy", 0), ("loss", 1), ("z", 0),
    ]  # fmt: skip
    assert outputs.loss.item() == pytest.approx(np.log(3))


def test_a_loss_that_is_read_is_an_output_under_the_name_of_its_split(real_caffe):
    text = DATA + inner_product("one", "data", "b")
    text += layer("loss", "SoftmaxWithLoss", "b label", "loss", "loss_weight: 0.3")
    text += layer("twice", "Power", "loss", "doubled", "power_param { scale: 2 }")
    theirs = real_caffe(text, {})
    outputs = net_of(text).forward({"data": torch.ones(4, 3), "label": torch.zeros(4)})
    assert (
        [name for name, _, _ in outputs.values]
        == theirs.outputs
        == ["doubled", "loss_loss_0_split_0"]
    )
    assert outputs.values[1][2] == pytest.approx(0.3)
    assert outputs.loss.item() == pytest.approx(0.3 * np.log(3), rel=1e-5)


def test_every_top_counts_in_the_loss_as_often_as_its_weight_says():
    text = DATA + layer(
        "parts",
        "Slice",
        "data",
        "x y z",
        " ".join(["loss_weight: 2", "loss_weight: 0", "loss_weight: -1"]),
    )
    outputs = net_of(text).forward(
        {"data": torch.arange(12.0).reshape(4, 3), "label": torch.zeros(4)}
    )
    assert outputs.loss.item() == 2 * (0 + 3 + 6 + 9) - (2 + 5 + 8 + 11)


def test_a_net_without_a_loss_has_loss_0():
    outputs = net_of(DATA).forward({"data": torch.ones(4, 3), "label": torch.zeros(4)})
    assert outputs.loss.item() == 0
    assert [name for name, _, _ in outputs.values] == ["data", "label"]


def test_inputs_of_the_net_need_no_layer():
    layers = layers_of(inner_product("one", "data", "b"))
    net = TorchNet(layers, "TEST", {"data": (2, 5), "unused": (1,)})
    outputs = net.forward({"data": torch.zeros(2, 5), "unused": torch.ones(1)})
    assert [name for name, _, _ in outputs.values] == ["b", "unused"]
    assert net.shapes == {"data": (2, 5), "unused": (1,), "b": (2, 3)}


def test_a_phase_of_its_own_wins_over_that_of_the_net():
    text = DATA + layer("drop", "Dropout", "data", "b", "phase: TEST")
    kept = net_of(text).forward({"data": torch.ones(4, 3), "label": torch.zeros(4)}, keep=True).kept
    assert torch.equal(kept["b"], torch.ones(4, 3))


def test_the_same_seed_makes_the_same_net():
    text = DATA + inner_product("one", "data", "b")
    text = text.replace("num_output: 3", "num_output: 3 weight_filler { type: 'xavier' }")
    one, same, other = (net_of(text, seed=seed).blobs["one"][0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_tested_net_has_the_blobs_of_the_trained_one():
    text = DATA + inner_product("one", "data", "b")
    trained = net_of(text)
    tested = net_of(text + inner_product("two", "b", "c"), "TEST", share=trained)
    assert tested.blobs["one"][0] is trained.blobs["one"][0]
    with pytest.raises(NetError) as refused:
        net_of(DATA + inner_product("one", "data", "b", 5), "TEST", share=trained)
    assert str(refused.value).splitlines()[0] == (
        "net.prototxt:3:1: layer 'one': blobs (5, 3), (5,), "
        "expected (3, 3), (3,), as the net has them that is trained"
    )


def test_weights_are_loaded_by_name_and_written_for_every_layer():
    text = DATA + inner_product("one", "data", "b") + LOSS
    net = net_of(text)
    weights = {
        "one": [np.arange(9.0).reshape(1, 1, 3, 3), np.array([1.0, 2, 3])],
        "gone": [np.zeros(1)],
    }
    assert net.load(weights, "w.caffemodel") == ("gone",)
    assert net.blobs["one"][0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    named = net.named_blobs()
    assert [(name, type_name, len(blobs)) for name, type_name, blobs in named] == [
        ("data", "Input", 0), ("label", "Input", 0), ("one", "InnerProduct", 2),
        ("loss", "SoftmaxWithLoss", 0),
    ]  # fmt: skip
    np.testing.assert_array_equal(named[2][2][1], [1, 2, 3])
    assert named[2][2][0].dtype == np.float32


def test_a_file_may_leave_out_blobs_that_a_layer_shares_with_an_earlier_one():
    """As HDF5 snapshots do."""
    text = DATA + inner_product("one", "data", "a", rest=SIAMESE)
    net = net_of(text + inner_product("two", "a", "b", rest=SIAMESE))
    net.load({"one": [np.ones((3, 3)), np.ones(3)], "two": []}, "w.h5")
    assert all(blob.min() == 1 for blob in net.blobs["two"])
    with pytest.raises(WeightsError, match=r'"one": 0 blobs, expected 2'):
        net.load({"one": [], "two": []}, "w.h5")


@pytest.mark.parametrize(
    ("blobs", "message"),
    [
        ([np.zeros((3, 3))], 'w.caffemodel: layer "one": 1 blobs, expected 2, as layer \'one\' of '
         "the net has"),
        ([np.zeros((3, 4)), np.zeros(3)], 'w.caffemodel: layer "one", blob 0: a blob (3, 4), '
         "expected (3, 3), as layer 'one' of the net has it"),
        ([np.zeros((3, 3)), np.zeros(4)], 'w.caffemodel: layer "one", blob 1: a blob (4,), '
         "expected (3,), as layer 'one' of the net has it"),
    ],
)  # fmt: skip
def test_weights_of_another_net_are_refused_and_change_nothing(blobs, message):
    net = net_of(DATA + inner_product("one", "data", "a") + inner_product("two", "a", "b"))
    with pytest.raises(WeightsError) as refused:
        net.load({"two": [np.ones((3, 3)), np.ones(3)], "one": blobs}, "w.caffemodel")
    assert str(refused.value).splitlines() == [
        message,
        "Give the layer another name in the net to learn it anew.",
    ]
    assert not net.blobs["two"][0].any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (layer("out", "HDF5Output", "data label"),
         "layer 'out' is of type 'HDF5Output', expected a type that the torch engine runs\n"
         "Take the layer out, or keep it out of training: exclude { phase: TRAIN }."),
        (layer("own", "Python", "data", "b"),
         "layer 'own' is of type 'Python', expected a type that the torch engine runs\n"
         "Its code works on Caffe's own blobs: train with --engine caffe."),
        (layer("windows", "WindowData", "", "x y"),
         "layer 'windows' is of type 'WindowData', expected a type that the torch engine runs\n"
         "Write its windows into an LMDB or a list for ImageData, or train with --engine caffe."),
        (layer("rotate", "RotateConv", "data", "b"),
         "layer 'rotate' is of type 'RotateConv', expected one of BVLC Caffe's layer types\n"
         "A fork's own layer needs that fork: train with --engine caffe."),
        (layer("relu", "ReLU", "dat", "b"),
         "layer 'relu': unknown bottom blob 'dat', expected a top of an earlier layer, "
         "or an input of the net"),
        (layer("relu", "ReLU", "data", "label"),
         "layer 'relu': top blob 'label' is produced by an earlier layer too, "
         "expected a name of its own"),
        (layer("relu", "ReLU", "data label", "b"), "layer 'relu': 2 bottoms, expected 1"),
        (layer("pool", "Pooling", "data", "b", "pooling_param { kernel_size: 2 }"),
         "layer 'pool': a bottom (4, 3), expected 4 axes"),
    ],
)  # fmt: skip
def test_a_net_that_cannot_run_is_refused_with_the_layer_and_its_line(text, message):
    with pytest.raises(NetError) as refused:
        net_of(DATA + text)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"net.prototxt:3:1: {message.splitlines()[0]}"
    assert lines[3:] == message.splitlines()[1:]


def test_data_that_nobody_gives_is_missed():
    layers = layers_of(DATA)
    with pytest.raises(NetError) as refused:
        TorchNet(layers, "TRAIN", {"data": (4, 3)})
    assert str(refused.value).splitlines()[0] == (
        "net.prototxt:2:1: layer 'label': no data for its top 'label'"
    )


FULLY_CONVOLUTIONAL = layer(
    "conv", "Convolution", "data", "c", "convolution_param { num_output: 2 kernel_size: 3 }"
) + layer("norm", "MVN", "c", "b")


def test_a_net_takes_batches_of_other_shapes():
    net = net_of(data("data", 1, 3, 8, 8) + FULLY_CONVOLUTIONAL)
    for shape, top in [((2, 3, 5, 9), (2, 2, 3, 7)), ((1, 3, 8, 8), (1, 2, 6, 6))]:
        kept = net.forward({"data": torch.randn(shape)}, keep=True).kept
        assert kept["b"].shape == top == net.shapes["b"]
        torch.testing.assert_close(kept["b"].mean((2, 3)), torch.zeros(top[:2]))


def test_but_not_if_blobs_would_have_other_shapes():
    net = net_of(data("data", 1, 3, 8, 8) + FULLY_CONVOLUTIONAL + inner_product("ip", "b", "y"))
    with pytest.raises(NetError) as refused:
        net.forward({"data": torch.zeros(1, 3, 9, 8)})
    assert str(refused.value).splitlines()[0] == (
        "net.prototxt:4:1: layer 'ip': bottoms that need blobs ((3, 84), (3,)), "
        "expected such as fit its blobs ((3, 72), (3,))"
    )
    with pytest.raises(NetError, match="expected 1 window or more on each axis"):
        net.forward({"data": torch.zeros(1, 3, 2, 8)})
    assert net.forward({"data": torch.zeros(1, 3, 8, 8)}).loss.item() == 0


def test_what_comes_from_outside_has_a_source():
    assert SOURCES.keys() == DATA_TYPES


def test_every_type_of_caffe_is_run_or_comes_from_outside_or_is_refused_with_a_remedy():
    assert LAYERS.keys() | DATA_TYPES | ABSENT.keys() == schema.layer_types()


def test_a_layer_adds_to_a_shared_gradient_only_where_its_own_lr_mult_is_not_zero(real_caffe):
    """Whatever that of the layer is which has the blob first."""
    own = "inner_product_param { num_output: 3 bias_term: false }"
    text = data("b0", 2, 3)
    text += layer("one", "InnerProduct", "b0", "one", f'param {{ name: "w" lr_mult: 0 }} {own}')
    text += layer(
        "two", "InnerProduct", "one", "two", f'param {{ name: "w" }} loss_weight: 1 {own}'
    )
    ours = run_torch(text, np.random.default_rng(0))
    theirs = real_caffe(text, ours.given)
    np.testing.assert_allclose(ours.diffs["two|0"], theirs.diffs["two|0"], rtol=1e-5)


@pytest.mark.parametrize("top", ["t", "apart"])
def test_a_gradient_is_another_one_than_caffes_only_where_check_tells(real_caffe, top):
    """Caffe goes back through the TanH by the doubled values."""
    text = layer("b0", "Parameter", "", "b0", "parameter_param { shape { dim: 2 dim: 3 } }")
    text += layer("tanh", "TanH", "b0", "t")
    text += layer("twice", "Power", "t", top, "loss_weight: 1 power_param { scale: 2 }")
    ours = run_torch(text, np.random.default_rng(0))
    theirs = real_caffe(text, ours.given)
    told = check_net(graph.build(prototxt.parse(text)))
    assert [each.rule for each in told] == (["kept-tops"] if top == "t" else [])
    assert np.allclose(ours.diffs["b0|0"], theirs.diffs["b0|0"], rtol=1e-5) == (not told)
