"""Where a skip reads, for every kernel, stride, pad and dilation a layer may have."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import SplitError
from caffesplit.split import skip
from caffesplit.split.geometry import Geometry
from caffesplit.split.linear import Axis


def geometry(*axes, group=1):
    return Geometry("Convolution", 6, True, axes, group)


def outputs(axis, size):
    return (size + 2 * axis.pad - (axis.dilation * (axis.kernel - 1) + 1)) // axis.stride + 1


def only_axis(axis, flow="sample", size=None):
    """The skip's geometry along the one axis of a layer, and its taps there."""
    (own,), (taps,) = skip.skip_axes(geometry(axis), flow, [size] if size else None)
    return own, taps


AXES = [
    Axis(kernel, stride, pad, dilation)
    for kernel, stride, pad, dilation in product(range(1, 6), range(1, 4), range(4), range(1, 4))
]


@pytest.mark.parametrize("flow", skip.STRIDES)
def test_without_a_known_bottom_the_outputs_agree_for_every_size(flow):
    for axis in AXES:
        try:
            own, _ = only_axis(axis, flow)
        except SplitError:
            continue
        for size in range(16, 32):
            assert outputs(own, size) == outputs(axis, size)


@pytest.mark.parametrize("flow", skip.STRIDES)
def test_with_a_known_bottom_the_outputs_agree_there(flow):
    for axis, size in product(AXES, (16, 17, 19)):
        try:
            own, _ = only_axis(axis, flow, size)
        except SplitError:
            continue
        assert outputs(own, size) == outputs(axis, size)


@pytest.mark.parametrize(
    ("axis", "own"),
    [
        (Axis(1), Axis()),
        (Axis(3, 1, 1), Axis()),
        (Axis(3, 2, 1), Axis(1, 2)),
        (Axis(3, 1, 2, 2), Axis()),
        (Axis(3, 1, 3), Axis(1, 1, 2)),
        (Axis(4, 2, 1), Axis(4, 2, 1)),
        (Axis(3), Axis(3)),
    ],
)
def test_one_pixel_suffices_where_its_outputs_are_as_many_whatever_the_size(axis, own):
    assert only_axis(axis)[0] == own


@pytest.mark.parametrize(
    ("axis", "own", "taps"),
    [
        (Axis(2, 2), Axis(2, 2), (0, 1)),
        (Axis(3, 3), Axis(3, 3), (0, 1, 2)),
        (Axis(4, 2, 1), Axis(2, 2), (0, 1)),
        (Axis(3, 2, 1), Axis(3, 2, 1), (1, 2)),
        (Axis(5, 3, 2), Axis(5, 3, 2), (2, 3, 4)),
        (Axis(3, 1, 1), Axis(), (0,)),
    ],
)
def test_an_average_is_taken_over_as_many_pixels_as_the_stride_is_long(axis, own, taps):
    assert only_axis(axis, "average") == (own, taps)


@pytest.mark.parametrize(
    ("axis", "size", "own"),
    [(Axis(3, 2, 1), 8, Axis(2, 2)), (Axis(3, 2, 1), 7, Axis(3, 2, 1))],
)
def test_a_known_bottom_spares_the_larger_kernel_where_the_sizes_agree(axis, size, own):
    assert only_axis(axis, "average", size)[0] == own


@pytest.mark.parametrize(
    ("axis", "tap"),
    [(Axis(3), 0), (Axis(4, 2, 1), 1), (Axis(3, 1, 1, 2), 1), (Axis(2, 1, 2), 1)],
)
def test_in_the_layers_own_geometry_the_tap_at_the_first_pixel_or_else_the_centre_is_used(
    axis, tap
):
    own, taps = only_axis(axis)
    assert own == axis
    assert taps == (tap,)


def test_one_axis_that_needs_the_layers_geometry_takes_the_others_along():
    axes, taps = skip.skip_axes(geometry(Axis(3, 1, 1), Axis(3)), "sample", None)
    assert axes == (Axis(3, 1, 1), Axis(3))
    assert taps == ((1,), (0,))


def test_a_mean_that_does_not_fit_in_is_refused():
    with pytest.raises(SplitError) as caught:
        only_axis(Axis(3, 2, 2, 2), "average")
    assert str(caught.value) == (
        "a kernel of 3 with pad 2, stride 2 and dilation 2, expected taps on the 2 pixels that an "
        "average skip takes the mean of\nChoose --skip-stride sample."
    )


def test_a_kernel_sums_to_one_for_each_channel_that_it_copies():
    axes, taps = skip.skip_axes(geometry(Axis(3, 2, 1), Axis(2, 2)), "average", None)
    weight = skip.kernel(3, 2, geometry(*axes), axes, taps)
    assert weight.shape == (3, 2, 3, 2)
    np.testing.assert_array_equal(weight.sum(axis=(2, 3)), [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(weight[0, 0], [[0, 0], [0.25, 0.25], [0.25, 0.25]])


@given(
    st.sampled_from(AXES), st.sampled_from(AXES), st.sampled_from(skip.STRIDES), st.integers(1, 3)
)
def test_within_the_layers_kernel_a_skip_reads_the_same_pixels(first, second, flow, group):
    base = geometry(first, second, group=group)
    try:
        axes, taps = skip.skip_axes(base, flow, None)
        weight = skip.kernel(2 * group, 3 * group, base, axes, taps)
        placed = skip.within(weight, axes, base)
    except SplitError:
        return

    def pixels(kernel, axes):
        found = {}
        for n, c, *taps in zip(*np.nonzero(kernel), strict=True):
            read = (tap * axis.dilation - axis.pad for tap, axis in zip(taps, axes, strict=True))
            found[(n, c, *read)] = kernel[(n, c, *taps)]
        return found

    assert pixels(placed, base.axes) == pixels(weight, axes)


def test_a_pixel_between_the_layers_taps_cannot_be_subtracted():
    base = geometry(Axis(2, 1, 1, 2))
    axes, taps = skip.skip_axes(base, "sample", None)
    with pytest.raises(SplitError) as caught:
        skip.within(skip.kernel(2, 2, base, axes, taps), axes, base)
    assert str(caught.value) == (
        "a skip that reads at pixel offset 0, where the kernel to be split does not (it reads at "
        "-1, 1), expected taps to subtract it from, for an exact start\n"
        "Split without --preserve, or by another method."
    )
