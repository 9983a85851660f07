"""Convolutions of all kinds: values and gradients are the real Caffe's."""

import pytest
from drawn_layers import convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_as_caffe, learned_bottoms, trained, with_losses

seeds = st.integers(0, 9)


@given(convolutions(), st.booleans(), seeds)
@settings(max_examples=100, deadline=None)
def test_convolutions_are_those_of_caffe(real_caffe, text, force_nd_im2col, seed):
    forced = f"convolution_param {{ force_nd_im2col: {str(force_nd_im2col).lower()}"
    text = text.replace("convolution_param {", forced)
    assert_as_caffe(real_caffe, with_losses(learned_bottoms(text)), seed)


@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution", "Im2col"])
@pytest.mark.parametrize("bottom", [(2, 4), (2, 4, 3, 2, 4, 3), (4, 2, 3, 3, 2)])
def test_convolutions_over_any_number_of_axes_are_those_of_caffe(real_caffe, type_name, bottom):
    """None, four of them; four with the channels on the first axis."""
    axis = 0 if len(bottom) == 5 else 1
    options = f"num_output: 6 kernel_size: 2 stride: 2 pad: 1 group: 2 dilation: 2 axis: {axis}"
    rest = f"convolution_param {{ {options} }}"
    assert_as_caffe(real_caffe, trained(type_name, [bottom], 1, rest))


def test_several_bottoms_share_one_kernel(real_caffe):
    rest = "convolution_param { num_output: 2 kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 }"
    assert_as_caffe(real_caffe, trained("Convolution", [(2, 3, 5, 4)] * 3, 3, rest))
