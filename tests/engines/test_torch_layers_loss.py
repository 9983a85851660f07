"""Losses and Accuracy: values and gradients are the real Caffe's."""

import numpy as np
import pytest
import torch
from drawn_layers import shape
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_as_caffe, inputs_of, layers_of, net_text, trained

from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError
from caffesplit.formats import schema

seeds = st.integers(0, 9)
modes = st.sampled_from(
    ["", "normalize: true", "normalize: false"]
    + [f"normalization: {mode}" for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")]
)


def labels(classes, name="b1", least=0):
    """Drawn labels for the bottom `name`; from `least` on, which may be one that is ignored."""

    def values(rng, bottom, shape):
        return rng.integers(least, classes, shape) if bottom == name else None

    return values


@st.composite
def classified(draw, axes=(1, -1)):
    """Predictions, the axis of the classes, how many there are, and the labels' shape."""
    bottom = draw(shape(2, 4))
    axis = draw(st.sampled_from([axis for axis in axes if axis < len(bottom)]))
    others = list(bottom)
    del others[axis]
    return bottom, axis, bottom[axis], others


@given(classified(), modes, st.sampled_from([None, 0, -1]), seeds)
@settings(max_examples=60, deadline=None)
def test_softmax_with_loss_is_that_of_caffe(real_caffe, case, mode, ignored, seed):
    bottom, axis, classes, others = case
    ignore = "" if ignored is None else f"ignore_label: {ignored}"
    rest = f"loss_param {{ {mode} {ignore} }} softmax_param {{ axis: {axis} }}"
    text = trained("SoftmaxWithLoss", [bottom, others], 1, rest, learned=[0])
    assert_as_caffe(real_caffe, text, seed, labels(classes, least=-1 if ignored == -1 else 0))


def test_the_loss_of_a_tiny_probability_has_a_ceiling_and_its_gradient_has_none(real_caffe):
    def values(rng, name, shape):
        return {"b0": [[0, 100, 0], [88, 0, 0.5], [87, 0, 0]], "b1": [0, 1, 1]}.get(name)

    text = trained("SoftmaxWithLoss", [(3, 3), (3,)], learned=[0])
    assert_as_caffe(real_caffe, text, 0, values)


@given(classified(), modes.filter(lambda mode: "normalize:" not in mode), st.booleans(), seeds)
@settings(max_examples=30, deadline=None)
def test_infogain_loss_is_that_of_caffe(real_caffe, case, mode, with_probabilities, seed):
    bottom, axis, classes, others = case
    rest = f"loss_param {{ {mode} ignore_label: 0 }} infogain_loss_param {{ axis: {axis} }}"
    bottoms = [bottom, others, (1, 1, classes, classes)]
    tops = 2 if with_probabilities else 1
    text = trained("InfogainLoss", bottoms, tops, rest, learned=[0], losses=[0])
    assert_as_caffe(real_caffe, text, seed, labels(classes))


def test_an_infogain_matrix_may_come_from_a_file(real_caffe, tmp_path):
    matrix = schema.message_class("BlobProto")(num=1, channels=1, height=3, width=3)
    matrix.data.extend(np.random.default_rng(0).standard_normal(9))
    (tmp_path / "h.binaryproto").write_bytes(matrix.SerializeToString())
    rest = f'infogain_loss_param {{ source: "{tmp_path}/h.binaryproto" }}'
    text = trained("InfogainLoss", [(4, 3), (4,)], 1, rest, learned=[0])
    assert_as_caffe(real_caffe, text, 0, labels(3))


@given(shape(2, 4), modes, st.sampled_from([None, 0, 1]), st.booleans(), seeds)
@settings(max_examples=50, deadline=None)
def test_sigmoid_cross_entropy_is_that_of_caffe(real_caffe, bottom, mode, ignored, whole, seed):
    def targets(rng, name, shape):
        drawn = rng.random(shape)
        return (drawn.round() if whole else drawn) if name == "b1" else None

    ignore = "" if ignored is None else f"ignore_label: {ignored}"
    rest = f"loss_param {{ {mode} {ignore} }}"
    text = trained("SigmoidCrossEntropyLoss", [bottom, bottom], 1, rest, learned=[0])
    assert_as_caffe(real_caffe, text, seed, targets)


@given(shape(1, 4), st.sampled_from(["L1", "L2"]), seeds)
@settings(max_examples=25, deadline=None)
def test_hinge_loss_is_that_of_caffe(real_caffe, bottom, norm, seed):
    rest = f"hinge_loss_param {{ norm: {norm} }}"
    text = trained("HingeLoss", [bottom, bottom[:1]], 1, rest, learned=[0])
    assert_as_caffe(real_caffe, text, seed, labels(int(np.prod(bottom[1:]))))


@given(shape(1, 4), seeds)
@settings(max_examples=15, deadline=None)
def test_euclidean_loss_is_that_of_caffe(real_caffe, bottom, seed):
    assert_as_caffe(real_caffe, trained("EuclideanLoss", [bottom, bottom]), seed)


@given(shape(2, 2), st.booleans(), st.sampled_from([0.5, 1, 4]), seeds)
@settings(max_examples=30, deadline=None)
def test_contrastive_loss_is_that_of_caffe(real_caffe, bottom, legacy, margin, seed):
    options = f"margin: {margin} legacy_version: {str(legacy).lower()}"
    rest = f"contrastive_loss_param {{ {options} }}"
    text = trained("ContrastiveLoss", [bottom, bottom, bottom[:1]], 1, rest, learned=[0, 1])
    assert_as_caffe(real_caffe, text, seed, labels(2, "b2"))


@given(shape(1, 4), seeds)
@settings(max_examples=20, deadline=None)
def test_multinomial_logistic_loss_is_that_of_caffe(real_caffe, bottom, seed):
    def values(rng, name, shape):
        if name == "b1":
            return rng.integers(0, int(np.prod(bottom[1:])), shape)
        return np.where(rng.random(shape) < 0.1, 1e-30, rng.random(shape))

    text = trained("MultinomialLogisticLoss", [bottom, bottom[:1]], learned=[0])
    # A tiny probability's gradient is 1e20 and more: that of the others counts as well.
    assert_as_caffe(real_caffe, text, seed, values)


@given(classified(), st.integers(1, 4), st.sampled_from([None, 0]), st.integers(1, 2), seeds)
@settings(max_examples=50, deadline=None)
def test_accuracy_is_that_of_caffe(real_caffe, case, top_k, ignored, tops, seed):
    bottom, axis, classes, others = case
    ignore = "" if ignored is None else f"ignore_label: {ignored}"
    rest = f"accuracy_param {{ axis: {axis} top_k: {top_k} {ignore} }}"
    text = net_text("Accuracy", [bottom, others], tops, rest)

    def values(rng, name, shape):
        drawn = labels(classes)(rng, name, shape)
        return rng.integers(0, 3, shape) if drawn is None and seed % 2 else drawn

    assert_as_caffe(real_caffe, text, seed, values)


def test_a_loss_without_a_top_counts_all_the_same():
    layers = layers_of(net_text("EuclideanLoss", [(2, 3), (2, 3)], 0))
    net = TorchNet(layers, "TRAIN", inputs_of(layers))
    outputs = net.forward({"b0": torch.ones(2, 3), "b1": torch.zeros(2, 3)})
    assert outputs.loss.item() == 1.5
    assert outputs.values == ()


@pytest.mark.parametrize("type_name", ["SoftmaxWithLoss", "HingeLoss", "Accuracy"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(type_name, label):
    layers = layers_of(net_text(type_name, [(2, 3), (2,)]))
    net = TorchNet(layers, "TRAIN", inputs_of(layers))
    with pytest.raises(NetError) as refused:
        net.forward({"b0": torch.zeros(2, 3), "b1": torch.tensor([0.0, label])})
    assert str(refused.value).splitlines()[0] == (
        f"net.prototxt:3:1: layer 'x': label {label} in its bottom, expected 0 to 2"
    )
