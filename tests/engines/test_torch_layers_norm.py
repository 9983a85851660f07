"""Layers that normalise: values, gradients and statistics are the real Caffe's."""

import pytest
import torch
from drawn_layers import fields, low_axes, shape
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_as_caffe, in_place, inputs_of, layers_of, net_text, trained

from caffesplit.engines.torch_net import TorchNet

seeds = st.integers(0, 9)
UNARY = {
    "LRN": (
        "lrn_param",
        {
            "local_size": st.sampled_from([1, 3, 5, 7]),
            "norm_region": st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]),
            "alpha": st.sampled_from([1e-4, 0.5, 2]),
            "beta": st.sampled_from([0.5, 0.75, 1.5]),
            "k": st.sampled_from([1, 2]),
        },
    ),
    "MVN": (
        "mvn_param",
        {
            "across_channels": st.booleans(),
            "normalize_variance": st.booleans(),
            "eps": st.sampled_from([1e-9, 1e-3, 0.5]),
        },
    ),
    "Softmax": ("softmax_param", {"axis": low_axes}),
}


@st.composite
def unary(draw):
    type_name, (parameter, options) = draw(st.sampled_from(sorted(UNARY.items())))
    bottom = draw(shape(4, 4) if type_name == "LRN" else shape(2, 4))
    if type_name == "MVN":  # Of fewer values, the variance is nothing but rounding.
        bottom = [size + 2 for size in bottom]
    return trained(type_name, [bottom], 1, f"{parameter} {{ {draw(fields(**options))} }}")


@given(unary(), seeds)
@settings(max_examples=100, deadline=None)
def test_lrn_mvn_and_softmax_are_those_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, text, seed)


def sums(rng, name, shape):
    """What BatchNorm's blobs hold after some batches."""
    return abs(rng.standard_normal(shape)) + 1 if name == "x" else None


@st.composite
def batch_norms(draw):
    options = {
        "use_global_stats": st.booleans(),
        "moving_average_fraction": st.sampled_from([0.5, 0.999, 1]),
        "eps": st.sampled_from([1e-5, 1e-2]),
    }
    # Of two values, one is the mirror image of the other whatever they are: no gradient is left.
    bottom = [size + 2 for size in draw(shape(2, 4))]
    text = trained("BatchNorm", [bottom], 1, f"batch_norm_param {{ {draw(fields(**options))} }}")
    return in_place(text) if draw(st.booleans()) else text


@given(batch_norms(), st.sampled_from(["TRAIN", "TEST"]), st.sampled_from([1, 3]), seeds)
@settings(max_examples=60, deadline=None)
def test_batch_norm_and_its_statistics_are_those_of_caffe(real_caffe, text, phase, times, seed):
    assert_as_caffe(real_caffe, text, seed, sums, phase, times)


def test_a_batch_norm_of_single_values_is_that_of_caffe(real_caffe):
    assert_as_caffe(real_caffe, trained("BatchNorm", [(1, 3)]), values=sums)
    assert_as_caffe(real_caffe, trained("BatchNorm", [(1, 3, 1, 1)]), values=sums)


def test_statistics_without_a_batch_are_zeros_and_divide_by_the_root_of_eps(real_caffe):
    def zeros(rng, name, shape):
        return rng.standard_normal(shape) * 0 if name == "x" else None

    assert_as_caffe(real_caffe, trained("BatchNorm", [(4, 3)]), values=zeros, phase="TEST")


def test_statistics_grow_with_each_forward_pass_in_train_only():
    layers = layers_of(net_text("BatchNorm", [(4, 3)]))
    net = TorchNet(layers, "TRAIN", inputs_of(layers))
    tested = TorchNet(layers, "TEST", inputs_of(layers), share=net)
    batch = {"b0": torch.randn(4, 3)}
    for passes in range(1, 4):
        net.forward(batch)
        tested.forward(batch)
        factor = sum(0.999**each for each in range(passes))
        assert net.blobs["x"][2].item() == pytest.approx(factor)
        assert tested.blobs["x"][2] is net.blobs["x"][2]
    mean = net.blobs["x"][0] / net.blobs["x"][2]
    torch.testing.assert_close(mean, batch["b0"].mean(0))
    assert not any(parameter.tensor.requires_grad for parameter in net.parameters)
    assert [parameter.lr_mult for parameter in net.parameters] == [0, 0, 0]
