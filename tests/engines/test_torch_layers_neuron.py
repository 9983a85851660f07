"""Layers that treat each value by itself: values and gradients are the real Caffe's."""

import numpy as np
import pytest
import torch
from drawn_layers import fields, shape
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_as_caffe, in_place, inputs_of, layers_of, net_text, trained

from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError

slopes = st.sampled_from([0, 0.01, 0.3, 1.5])
factors = st.sampled_from([-1.5, -0.5, 0.25, 1, 2])
bases = st.sampled_from([-1, 0.5, 2, 10])
OPTIONS = {
    "AbsVal": ("", {}),
    "BNLL": ("", {}),
    "Clip": ("clip_param", {}),
    "ELU": ("elu_param", {"alpha": slopes}),
    "Exp": ("exp_param", {"base": bases, "scale": factors, "shift": factors}),
    "Log": ("log_param", {"base": bases, "scale": st.sampled_from([0.5, 1, 3]), "shift": slopes}),
    "Power": (
        "power_param",
        {"power": st.sampled_from([0, 1, 2, 3]), "scale": factors, "shift": factors},
    ),
    "PReLU": ("prelu_param", {"channel_shared": st.booleans()}),
    "ReLU": ("relu_param", {"negative_slope": slopes}),
    "Sigmoid": ("", {}),
    "Swish": ("swish_param", {"beta": factors}),
    "TanH": ("", {}),
}
IN_PLACE = ("ELU", "Exp", "PReLU", "ReLU", "Sigmoid", "TanH")
"""Types of which Caffe gives the right gradients in place as well."""


@st.composite
def neurons(draw):
    type_name = draw(st.sampled_from(sorted(OPTIONS)))
    parameter, options = OPTIONS[type_name]
    given = fields(**options) if type_name != "Clip" else st.just("min: -0.5 max: 1")
    rest = f"{parameter} {{ {draw(given)} }}" if parameter else ""
    bottom = draw(shape(2, 4) if type_name == "PReLU" else shape(0, 5))
    text = trained(type_name, [bottom], 1, rest)
    return in_place(text) if type_name in IN_PLACE and draw(st.booleans()) else text


def positive(rng, name, shape):
    return np.abs(rng.standard_normal(shape)) + 0.1


@given(neurons(), st.integers(0, 9))
@settings(max_examples=120, deadline=None)
def test_values_and_gradients_are_those_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, text, seed, positive if '"Log"' in text else None)


@given(st.sampled_from([-1.5, -0.75, 0.3, 0.5, 2.5]), factors.map(abs), slopes, st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_a_power_that_is_no_whole_number_is_that_of_caffe(real_caffe, power, scale, shift, seed):
    rest = f"power_param {{ power: {power} scale: {scale} shift: {shift} }}"
    assert_as_caffe(real_caffe, trained("Power", [(3, 4)], 1, rest), seed, positive)


def kinks(rng, name, shape):
    return rng.integers(-1, 2, shape)


@pytest.mark.parametrize("type_name", ["AbsVal", "ELU", "PReLU", "ReLU"])
def test_at_a_kink_the_gradient_is_that_of_caffe(real_caffe, type_name):
    assert_as_caffe(real_caffe, trained(type_name, [(4, 5)]), 0, kinks)
    bounds = "clip_param { min: 0 max: 1 }"
    assert_as_caffe(real_caffe, trained("Clip", [(4, 5)], 1, bounds), 0, kinks)
    slope = "relu_param { negative_slope: 0.5 }"
    assert_as_caffe(real_caffe, trained("ReLU", [(4, 5)], 1, slope), 0, kinks)


@pytest.mark.parametrize("threshold", [-0.5, 0, 1])
def test_a_threshold_is_that_of_caffe(real_caffe, threshold):
    rest = f"threshold_param {{ threshold: {threshold} }}"
    assert_as_caffe(real_caffe, net_text("Threshold", [(3, 4, 2)], 1, rest), 0, kinks)


def net_of(text, phase="TRAIN", **options):
    layers = layers_of(text, phase)
    return TorchNet(layers, phase, inputs_of(layers), **options)


def gradient_of(net, x):
    """The top of x, and what comes back to x of a gradient of ones."""
    x = x.clone().requires_grad_()
    top = net.forward({"b0": x}, keep=True).kept["x0"]
    top.sum().backward()
    return top.detach(), x.grad


DROPOUT = net_text("Dropout", [(400, 500)], 1, "dropout_param { dropout_ratio: 0.3 }")


def test_dropout_keeps_a_share_and_scales_it_up_and_its_gradient_likewise():
    top, gradient = gradient_of(net_of(DROPOUT, seed=1), torch.ones(400, 500))
    kept = top != 0
    assert abs(kept.float().mean().item() - 0.7) < 0.005
    torch.testing.assert_close(top[kept], torch.full_like(top[kept], 1 / 0.7))
    assert torch.equal(top, gradient)
    rows = kept.float().mean(1)
    assert rows.std().item() == pytest.approx((0.7 * 0.3 / 500) ** 0.5, rel=0.15)


def test_dropout_draws_anew_each_time_and_again_for_the_same_seed():
    first, again = net_of(DROPOUT, seed=1), net_of(DROPOUT, seed=1)
    x = torch.ones(400, 500)
    one, two = gradient_of(first, x)[0], gradient_of(first, x)[0]
    assert not torch.equal(one, two)
    assert torch.equal(one, gradient_of(again, x)[0])
    assert not torch.equal(one, gradient_of(net_of(DROPOUT, seed=2), x)[0])


def test_dropout_does_nothing_in_test():
    top, gradient = gradient_of(net_of(DROPOUT, "TEST"), torch.full((400, 500), 3.0))
    assert torch.all(top == 3)
    assert torch.all(gradient == 1)


@pytest.mark.parametrize(
    ("type_name", "rest", "message"),
    [
        ("Log", "log_param { base: 1 }",
         "net.prototxt:2:1: layer 'x': base 1, expected another\n"
         "There is no logarithm to the base 1."),
        ("Exp", "exp_param { base: -2 }",
         "net.prototxt:2:1: layer 'x': base -2, expected one above 0, or -1 for e"),
        ("Dropout", "dropout_param { dropout_ratio: 1 }",
         "net.prototxt:2:1: layer 'x': dropout_ratio 1, expected 0 or more, and below 1"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(type_name, rest, message):
    with pytest.raises(NetError) as refused:
        net_of(net_text(type_name, [(2, 3)], 1, rest))
    assert str(refused.value).splitlines()[0] == message.splitlines()[0]
    assert str(refused.value).endswith(message.splitlines()[-1]) or "\n" not in message
