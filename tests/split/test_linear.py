import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from naive_net import convolve

from caffesplit.split import linear
from caffesplit.split.linear import ALL, Axis, UnfoldableError

C = 4


@st.composite
def geometries(draw, stride=None, pointwise=False):
    """The same along both axes: kernel, stride, pad, dilation."""
    stride = stride or draw(st.integers(1, 3))
    if pointwise:
        return Axis(1, stride, 0, 1)
    return Axis(draw(st.integers(1, 4)), stride, draw(st.integers(0, 3)), draw(st.integers(1, 2)))


def layer(rng, axis, outputs, channels=C, group=1, bias=True):
    """A random convolution: its blobs and geometry for the naive one, and as a map."""
    weight = rng.standard_normal((outputs, channels // group, axis.kernel, axis.kernel))
    shift = rng.standard_normal(outputs) if bias else None
    geometry = {"stride": axis.stride, "pad": axis.pad, "dilation": axis.dilation, "group": group}
    blobs = (weight, shift) if bias else (weight,)
    own = linear.convolution(weight, shift, group, (axis, axis))
    return (lambda image: convolve(image, *blobs, **geometry)), own


def computed(own, image):
    """What a single convolution with the map's kernel computes."""
    axis = own.axes[0]
    assert own.axes == (axis, axis)
    return convolve(image, own.weight(ALL), own.bias, axis.stride, axis.pad, axis.dilation)


def image_for(rng, *axes):
    span = max(axis.dilation * (axis.kernel - 1) + 1 for axis in axes)
    return rng.standard_normal((C, span + 4, span + 4))


seeds = st.integers(0, 1000).map(np.random.default_rng)


@given(seeds, geometries(), st.sampled_from([1, 2, 4]))
def test_a_convolution_is_its_own_map_groups_written_out(rng, axis, group):
    naive, own = layer(rng, axis, 4, group=group)
    image = image_for(rng, axis)
    np.testing.assert_allclose(computed(own, image), naive(image), atol=1e-10)
    assert own.group == group
    assert own.count == 4 * C // group * axis.kernel**2


@given(seeds, geometries(), geometries(pointwise=True))
def test_a_pointwise_layer_behind_any_kernel_composes(rng, axis, after):
    naive, first = layer(rng, axis, 5)
    naive_after, second = layer(rng, after, 3, channels=5)
    image = image_for(rng, axis)
    both = linear.then(first, second)
    np.testing.assert_allclose(computed(both, image), naive_after(naive(image)), atol=1e-9)


@given(seeds, geometries())
def test_a_pointwise_layer_before_a_kernel_composes_unless_a_bias_meets_padding(rng, axis):
    assume(axis.kernel > 1)
    naive, first = layer(rng, Axis(), 5, bias=axis.pad == 0)
    naive_after, second = layer(rng, axis, 3, channels=5)
    image = image_for(rng, axis)
    both = linear.then(first, second)
    np.testing.assert_allclose(computed(both, image), naive_after(naive(image)), atol=1e-9)
    if axis.pad:
        with pytest.raises(UnfoldableError, match="the padding has none"):
            linear.then(layer(rng, Axis(), 5)[1], second)


@given(seeds, st.integers(1, 3).flatmap(lambda s: st.tuples(geometries(s), geometries(s))))
def test_branches_add_up_and_stack_where_their_outputs_are_of_one_size(rng, axes):
    assume(axes[0].surplus == axes[1].surplus)
    branches = [layer(rng, axis, 3) for axis in axes]
    image = image_for(rng, *axes)
    parts = [naive(image) for naive, _ in branches]
    maps = [own for _, own in branches]
    total = computed(linear.summed(maps, [2, -0.5]), image)
    np.testing.assert_allclose(total, 2 * parts[0] - 0.5 * parts[1], atol=1e-9)
    stack = computed(linear.stacked(maps), image)
    np.testing.assert_allclose(stack, np.concatenate(parts), atol=1e-9)


@given(seeds)
def test_a_block_of_the_input_channels_of_a_kernel_is_that_block_of_the_whole(rng):
    own = linear.stacked(
        [
            linear.then(layer(rng, Axis(3, 1, 1), 4, group=2)[1], layer(rng, Axis(), 3, 4)[1]),
            linear.summed([layer(rng, Axis(3, 1, 1), 2)[1], layer(rng, Axis(), 2)[1]], [1, 1]),
        ]
    )
    blocks = [own.weight(slice(0, 1)), own.weight(slice(1, 4))]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), own.weight(ALL))


def test_a_permutation_moves_kernels_bit_for_bit_minus_zero_included():
    weight = np.float32([[-0.0, 1e-30], [0.1, np.inf]]).reshape(2, 2, 1, 1)
    own = linear.convolution(weight, None, 1, (Axis(), Axis()))
    swap = linear.convolution(np.float32([[0, 1], [1, 0]]).reshape(2, 2, 1, 1), None, 1, own.axes)
    swapped = linear.then(own, swap).weight(ALL).astype(np.float32)
    assert swapped.tobytes() == weight[::-1].tobytes()


def test_a_kernel_that_no_branch_holds_is_spanned():
    rng = np.random.default_rng(0)
    up = linear.convolution(rng.standard_normal((2, C, 3, 1)), None, 1, (Axis(3, 1, 1), Axis()))
    flat = linear.convolution(rng.standard_normal((2, C, 1, 3)), None, 1, (Axis(), Axis(3, 1, 1)))
    assert linear.summed([up, flat], [1, 1]).axes == (Axis(3, 1, 1), Axis(3, 1, 1))


def test_dilated_and_dense_kernels_share_a_lattice():
    rng = np.random.default_rng(0)
    _, wide = layer(rng, Axis(3, 1, 2, 2), 2)
    _, dense = layer(rng, Axis(3, 1, 1, 1), 2)
    both = linear.summed([wide, dense], [1, 1])
    assert both.axes[0] == Axis(5, 1, 2, 1)
    image = rng.standard_normal((C, 6, 6))
    parts = [computed(own, image) for own in (wide, dense)]
    np.testing.assert_allclose(computed(both, image), sum(parts), atol=1e-10)


def test_branches_of_different_strides_do_not_add_up():
    rng = np.random.default_rng(0)
    with pytest.raises(UnfoldableError, match="branches of different strides"):
        linear.summed([layer(rng, Axis(3, 1), 2)[1], layer(rng, Axis(3, 2), 2)[1]], [1, 1])


def test_two_spatial_kernels_in_a_row_stay_two():
    rng = np.random.default_rng(0)
    first, second = layer(rng, Axis(3), 2)[1], layer(rng, Axis(3), 2, channels=2)[1]
    with pytest.raises(UnfoldableError, match="two spatial kernels in a row"):
        linear.then(first, second)


def test_channels_that_do_not_meet_are_told():
    rng = np.random.default_rng(0)
    with pytest.raises(UnfoldableError, match="2 channels meet a layer of 4"):
        linear.then(layer(rng, Axis(), 2)[1], layer(rng, Axis(), 2)[1])


def test_groups_survive_what_mixes_within_them_alone():
    rng = np.random.default_rng(0)
    grouped = layer(rng, Axis(3), 4, group=2)[1]
    within = layer(rng, Axis(), 6, channels=4, group=2)[1]
    assert linear.then(grouped, within).group == 2
    assert linear.then(grouped, layer(rng, Axis(), 6)[1]).group == 1
    assert linear.summed([grouped, layer(rng, Axis(3), 4)[1]], [1, 1]).group == 1
    halves = [
        linear.then(
            linear.selection(range(start, start + 2), C, 2), layer(rng, Axis(3), 3, channels=2)[1]
        )
        for start in (0, 2)
    ]
    assert linear.stacked(halves).group == 2
