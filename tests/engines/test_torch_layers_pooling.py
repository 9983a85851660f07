"""Pooling and its pyramid: values and gradients are the real Caffe's."""

import pytest
import torch
from drawn_layers import poolings
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import (
    assert_as_caffe,
    inputs_of,
    layers_of,
    learned_bottoms,
    net_text,
    trained,
    with_losses,
)

from caffesplit.engines.torch_layers_pooling import Pooling, pool
from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError
from caffesplit.net.layer_rules import is_sound
from caffesplit.net.shape_windows import pooling_sides

seeds = st.integers(0, 9)


def has_window_behind(text):
    """Whether there are windows without a maximum, whose gradients Caffe writes anywhere."""
    layer = layers_of(text)[-1]
    parameter = layer.message.pooling_param
    padded = parameter.pad or parameter.pad_h or parameter.pad_w
    if layer.type != "Pooling" or padded or parameter.global_pooling or not is_sound(layer):
        return False
    kernel = pooling_sides(parameter, "kernel", parameter.kernel_size)
    stride = pooling_sides(parameter, "stride", parameter.stride)
    image = inputs_of(layers_of(text))["b0"][2:]
    return any(-(-(n - k) // s) * s >= n for n, k, s in zip(image, kernel, stride, strict=False))


@given(poolings(), seeds)
@settings(max_examples=100, deadline=None)
def test_pooling_is_that_of_caffe(real_caffe, text, seed):
    if not has_window_behind(text):
        text = with_losses(learned_bottoms(text), [0])
    assert_as_caffe(real_caffe, text, seed)


def equal_values(rng, name, shape):
    return rng.integers(0, 2, shape) if name == "b0" else None


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([1, 2]),
    seeds,
)
@settings(max_examples=60, deadline=None)
def test_of_equal_values_the_first_is_the_maximum(
    real_caffe, image, kernel, stride, pad, tops, seed
):
    rest = f"pooling_param {{ kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    text = net_text("Pooling", [(2, 2, *image)], tops, rest)
    if not has_window_behind(text):
        text = with_losses(learned_bottoms(text), [0])
    assert_as_caffe(real_caffe, text, seed, equal_values)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_a_window_behind_the_image_has_the_value_that_caffe_gives_it(real_caffe, method):
    """Without a pad and with a stride larger than the kernel; the others' values are right."""
    rest = f"pooling_param {{ pool: {method} kernel_size: 1 stride: 3 }}"
    assert_as_caffe(real_caffe, net_text("Pooling", [(2, 2, 5, 6)], 1, rest))
    rest = f"pooling_param {{ pool: {method} kernel_size: 2 stride: 4 }}"
    assert_as_caffe(real_caffe, net_text("Pooling", [(1, 1, 7, 8)], 1, rest))


def net_of(text, phase="TRAIN"):
    layers = layers_of(text, phase)
    return TorchNet(layers, phase, inputs_of(layers))


def test_windows_are_laid_anew_for_images_of_other_sizes():
    rest = "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"
    net = net_of(net_text("Pooling", [(1, 1, 6, 6)], 1, rest))
    image = torch.ones(2, 1, 9, 4)
    assert net.forward({"b0": image}, keep=True).kept["x0"].shape == (2, 1, 4, 2)


@pytest.mark.parametrize("type_name", ["Pooling", "SPP"])
def test_stochastic_pooling_is_refused(type_name):
    options = {"Pooling": "kernel_size: 2", "SPP": "pyramid_height: 2"}[type_name]
    parameter = {"Pooling": "pooling_param", "SPP": "spp_param"}[type_name]
    rest = f"{parameter} {{ pool: STOCHASTIC {options} }}"
    with pytest.raises(NetError) as refused:
        net_of(net_text(type_name, [(1, 1, 4, 4)], 1, rest))
    assert str(refused.value).startswith(
        "net.prototxt:2:1: layer 'x': stochastic pooling, expected MAX or AVE"
    )
    assert str(refused.value).endswith("Caffe itself has it on GPUs only.")


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 3, 1), (4, 3, 3)])
def test_the_number_of_windows_may_be_rounded_down(real_caffe, method, kernel, stride, pad):
    """As Caffe since 2018 does where it is told to."""
    options = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    rest = f"pooling_param {{ round_mode: FLOOR {options} }}"
    for image in [(7, 8), (9, 6)]:
        assert_as_caffe(real_caffe, trained("Pooling", [(2, 2, *image)], 1, rest))


def test_values_of_bfloat16_are_pooled_where_windows_reach_over_the_border():
    x = torch.rand(1, 1, 5, 5).bfloat16()
    windows = Pooling((2, 2), (3, 3), (1, 1), is_maximum=True)
    assert pool(x, windows).equal(pool(x.float(), windows).bfloat16())
