import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_net import convolve, inner_product

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.evaluate import forward, statistics

seeds = st.integers(0, 1000).map(np.random.default_rng)


def layer(type_name, parameter="", bottoms=("x",), tops=("y",)):
    wiring = "".join(f'bottom: "{name}" ' for name in bottoms)
    wiring += "".join(f'top: "{name}" ' for name in tops)
    text = f'layer {{ name: "l" type: "{type_name}" {wiring} {parameter} }}'
    return graph.build(prototxt.parse(text)).layers[0]


@given(
    seeds,
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
)
def test_a_convolution_is_the_naive_one(rng, kernel, stride, pad, dilation, group):
    one = layer(
        "Convolution",
        f"convolution_param {{ num_output: 4 kernel_h: {kernel[0]} kernel_w: {kernel[1]} "
        f"stride: {stride} pad: {pad} dilation: {dilation} group: {group} }}",
    )
    blobs = [rng.standard_normal((4, 6 // group, *kernel)), rng.standard_normal(4)]
    image = rng.standard_normal((1, 6, 7, 8))
    naive = convolve(image[0], *blobs, stride, pad, dilation, group)
    found = forward([one], {"l": blobs}, {"x": image})["y"]
    np.testing.assert_allclose(found, naive[np.newaxis], atol=1e-10)


@given(seeds, st.sampled_from([1, 2, -1]), st.booleans())
def test_an_inner_product_is_the_naive_one(rng, axis, transpose):
    parameter = f"axis: {axis} transpose: {str(transpose).lower()} num_output: 3"
    one = layer("InnerProduct", f"inner_product_param {{ {parameter} }}")
    image = rng.standard_normal((1, 4, 5))
    count = 20 if axis == 1 else 5
    weight = rng.standard_normal((count, 3) if transpose else (3, count))
    blobs = [weight, rng.standard_normal(3)]
    naive = inner_product(image, *blobs, axis=axis, transpose=transpose)
    found = forward([one], {"l": blobs}, {"x": image})["y"]
    np.testing.assert_allclose(found, naive, atol=1e-10)


def test_joins_slices_and_factors_per_channel():
    image = np.arange(12.0).reshape(1, 3, 2, 2)
    run = [
        layer("Slice", "slice_param { slice_point: 1 }", tops=("a", "b")),
        layer("Scale", "scale_param { bias_term: true }", ("b",), ("b",)),
        layer("Concat", "", ("b", "a"), ("c",)),
        layer("Power", "power_param { scale: 2 shift: 1 }", ("c",), ("d",)),
        layer("Eltwise", "eltwise_param { coeff: 1 coeff: -1 }", ("d", "c"), ("y",)),
    ]
    found = forward(run, {"l": [np.float32([10, 100]), np.float32([1, 2])]}, {"x": image})["y"]
    scaled = image[:, 1:] * [[[10]], [[100]]] + [[[1]], [[2]]]
    np.testing.assert_array_equal(found, np.concatenate([scaled, image[:, :1]], 1) + 1)


def test_unequal_bottoms_of_a_sum_are_an_error():
    with pytest.raises(ValueError, match="layer 'l': bottoms of different shapes"):
        forward(
            [layer("Eltwise", "", ("a", "b"))],
            {},
            {"a": np.zeros((1, 2, 3)), "b": np.zeros((1, 2, 1))},
        )


def test_statistics_are_sums_divided_by_their_factor_and_0_where_that_is_0():
    one = layer("BatchNorm", "batch_norm_param { eps: 0.5 }")
    scale, shift = statistics(one, [np.float32([4]), np.float32([7]), np.float32([2])])
    assert (scale[0], shift[0]) == (1 / 2, -1.0)
    scale, shift = statistics(one, [np.float32([4]), np.float32([7]), np.float32([0])])
    assert (scale[0], shift[0]) == (1 / np.sqrt(0.5), 0)
