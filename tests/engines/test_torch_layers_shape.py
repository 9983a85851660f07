"""Layers that move, choose or join values, and linear ones: the real Caffe's, gradients too."""

import numpy as np
import pytest
import torch
from drawn_layers import alike, axes, few, fields, low_axes, mostly, reshapes, shape, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import (
    assert_as_caffe,
    copied,
    in_place,
    inputs_of,
    layers_of,
    learned_bottoms,
    net_text,
    trained,
    with_losses,
)

from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError

seeds = st.integers(0, 9)
UNARY = {
    "Bias": ("bias_param", {"axis": low_axes, "num_axes": st.integers(-1, 3)}),
    "Flatten": ("flatten_param", {"axis": low_axes, "end_axis": axes}),
    "InnerProduct": (
        "inner_product_param",
        {"axis": low_axes, "transpose": st.booleans(), "bias_term": st.booleans()},
    ),
    "Reduction": (
        "reduction_param",
        {
            "axis": low_axes,
            "operation": st.sampled_from(["SUM", "ASUM", "SUMSQ", "MEAN"]),
            "coeff": st.sampled_from([-0.5, 1, 2]),
        },
    ),
    "Scale": (
        "scale_param",
        {"axis": low_axes, "num_axes": st.integers(-1, 3), "bias_term": st.booleans()},
    ),
    "Tile": ("tile_param", {"axis": low_axes, "tiles": few}),
}


@st.composite
def unary(draw):
    type_name, (parameter, options) = draw(st.sampled_from(sorted(UNARY.items())))
    more = "num_output: 3" if type_name == "InnerProduct" else ""
    rest = f"{parameter} {{ {more} {draw(fields(**options))} }}"
    text = trained(type_name, [draw(shape(1, 5))], 1, rest)
    if type_name == "Flatten":  # Caffe shares its diff, as Parameter does; one of the two is lost.
        return copied(text)
    return in_place(text) if type_name in ("Bias", "Scale") and draw(st.booleans()) else text


@given(unary(), seeds)
@settings(max_examples=150, deadline=None)
def test_layers_of_one_bottom_are_those_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, text, seed)


@given(reshapes(), seeds)
@settings(max_examples=40, deadline=None)
def test_a_reshape_is_that_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, with_losses(learned_bottoms(text)), seed)


@given(alike(), seeds)
@settings(max_examples=60, deadline=None)
def test_concat_eltwise_and_slice_are_those_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, with_losses(learned_bottoms(text)), seed)


def with_equals(rng, name, shape):
    return rng.integers(-1, 2, shape)


@given(
    st.sampled_from(["PROD", "SUM", "MAX"]),
    st.integers(2, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, with_equals]),
    seeds,
)
@settings(max_examples=50, deadline=None)
def test_an_eltwise_is_that_of_caffe(real_caffe, operation, count, stable, weighted, values, seed):
    coefficients = [-0.5, 1, 2, 0.25][:count] if weighted and operation == "SUM" else []
    options = " ".join(f"coeff: {each}" for each in coefficients)
    if values is None:
        options += f" stable_prod_grad: {str(stable).lower()}"
    rest = f"eltwise_param {{ operation: {operation} {options} }}"
    assert_as_caffe(real_caffe, trained("Eltwise", [(3, 4)] * count, 1, rest), seed, values)


@st.composite
def factors(draw):
    """A bottom, and another that scales it or is added to it."""
    bottom, axis = draw(shape(1, 4)), draw(low_axes)
    other = draw(mostly(st.integers(0, 3).map(lambda n: bottom[axis:][:n]), shape(0, 3)))
    type_name = draw(st.sampled_from(["Scale", "Bias"]))
    rest = f"axis: {axis} "
    rest += draw(fields(bias_term=st.booleans())) if type_name == "Scale" else ""
    return trained(type_name, [bottom, other], 1, f"{type_name.lower()}_param {{ {rest} }}")


@given(factors(), seeds)
@settings(max_examples=50, deadline=None)
def test_a_second_bottom_scales_or_adds_as_in_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, text, seed)


@st.composite
def crops(draw):
    bottom, axis = draw(shape(2, 4)), draw(low_axes)
    count = draw(st.sampled_from([0, 1, len(bottom[axis:])]))
    offsets = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    other = [max(size - 2, 1) for size in bottom]
    rest = f"crop_param {{ axis: {axis} {' '.join(f'offset: {each}' for each in offsets)} }}"
    return trained("Crop", [bottom, other], 1, rest, learned=[0])


@given(crops(), seeds)
@settings(max_examples=30, deadline=None)
def test_a_crop_is_that_of_caffe(real_caffe, text, seed):
    assert_as_caffe(real_caffe, text, seed)


@given(shape(1, 3), st.integers(1, 5), seeds)
@settings(max_examples=15, deadline=None)
def test_items_reindexed_are_those_of_caffe(real_caffe, bottom, count, seed):
    def indices(rng, name, shape):
        return rng.integers(0, bottom[0], shape) if name == "b1" else None

    text = trained("BatchReindex", [bottom, [count]], learned=[0])
    assert_as_caffe(real_caffe, text, seed, indices)


@given(shape(1, 3), st.integers(1, 2), st.booleans(), seeds)
@settings(max_examples=15, deadline=None)
def test_items_filtered_are_those_of_caffe(real_caffe, bottom, count, tailed, seed):
    def selected(rng, name, shape):
        if name != f"b{count}":
            return None
        chosen = rng.integers(0, 2, shape)
        chosen.flat[0] = 1  # Caffe does not go back through a blob without values.
        return chosen

    selector = [bottom[0], *([1] if tailed else [])]
    bottoms = [bottom] * count + [selector]
    text = trained("Filter", bottoms, count, learned=range(count))
    assert_as_caffe(real_caffe, text, seed, selected)


@given(shape(0, 3), st.integers(1, 6), sizes, st.booleans(), seeds)
@settings(max_examples=20, deadline=None)
def test_an_embedding_is_that_of_caffe(real_caffe, bottom, classes, num_output, bias, seed):
    def indices(rng, name, shape):
        return rng.integers(0, classes, shape) if name == "b0" else None

    options = f"num_output: {num_output} input_dim: {classes} bias_term: {str(bias).lower()}"
    text = trained("Embed", [bottom], 1, f"embed_param {{ {options} }}", learned=[])
    assert_as_caffe(real_caffe, text, seed, indices)


@given(
    shape(2, 4), st.one_of(st.none(), low_axes), few, st.booleans(),
    st.sampled_from([None, with_equals]), seeds,
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_an_argmax_is_that_of_caffe(real_caffe, bottom, axis, top_k, out_max_val, values, seed):
    rest = f"top_k: {top_k} out_max_val: {str(out_max_val).lower()}"
    rest += "" if axis is None else f" axis: {axis}"
    text = net_text("ArgMax", [bottom], 1, f"argmax_param {{ {rest} }}")
    assert_as_caffe(real_caffe, text, seed, values)


def test_silence_takes_no_part_in_the_gradient(real_caffe):
    text = trained("Split", [(2, 3)], 3, losses=[0])
    text += 'layer { name: "s" type: "Silence" bottom: "x1" bottom: "x2" }\n'
    assert_as_caffe(real_caffe, text)


def test_a_split_adds_up_the_gradients_of_its_tops(real_caffe):
    assert_as_caffe(real_caffe, trained("Split", [(2, 3)], 3))


@pytest.mark.parametrize(
    ("type_name", "rest", "shapes", "value", "found"),
    [
        ("Embed", "embed_param { num_output: 2 input_dim: 3 }", [(2,)], 3, "index 3"),
        ("Embed", "embed_param { num_output: 2 input_dim: 3 }", [(2,)], -1, "index -1"),
        ("BatchReindex", "", [(3, 2), (2,)], 3, "index 3"),
    ],
)
def test_an_index_outside_is_refused(type_name, rest, shapes, value, found):
    layers = layers_of(net_text(type_name, shapes, 1, rest))
    net = TorchNet(layers, "TRAIN", inputs_of(layers))
    batch = {f"b{index}": torch.zeros(shape) for index, shape in enumerate(shapes)}
    batch[f"b{len(shapes) - 1}"].fill_(value)
    with pytest.raises(NetError) as refused:
        net.forward(batch)
    line = len(shapes) + 1
    assert str(refused.value).splitlines()[0] == (
        f"net.prototxt:{line}:1: layer 'x': {found} in its bottom, expected 0 to 2"
    )


def test_no_item_may_pass_a_filter():
    layers = layers_of(net_text("Filter", [(3, 2), (3,)], 1))
    net = TorchNet(layers, "TRAIN", inputs_of(layers))
    batch = {"b0": torch.ones(3, 2), "b1": torch.zeros(3)}
    assert net.forward(batch, keep=True).kept["x0"].shape == (0, 2)
    assert np.prod(net.shapes["x0"]) == 6
