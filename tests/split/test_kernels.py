import numpy as np
import pytest
from naive_net import convolve

from caffesplit.split import kernels

RNG = np.random.default_rng(0)


def test_restoring_undoes_the_order_of_concatenation():
    image = RNG.standard_normal((5, 2, 3))
    order = (3, 0, 4, 2, 1)
    weight = kernels.pointwise(kernels.restoring(order, 5), 2, 0.0, RNG)
    np.testing.assert_array_equal(convolve(image[list(order)], weight), image)


def test_a_pointwise_identity_without_noise_is_exact_and_draws_nothing():
    rng = np.random.default_rng(1)
    weight = kernels.pointwise(kernels.identity(4, 4), 2, 0.0, rng)
    assert weight.shape == (4, 4, 1, 1)
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight[:, :, 0, 0], np.eye(4))
    assert rng.integers(1 << 30) == np.random.default_rng(1).integers(1 << 30)


def test_noise_has_the_standard_deviation_asked_for():
    weight = kernels.pointwise(kernels.identity(200, 200), 2, 0.01, np.random.default_rng(2))
    noise = weight[:, :, 0, 0] - np.eye(200)
    assert noise.std() == pytest.approx(0.01, rel=0.02)
    assert abs(noise.mean()) < 0.0005


def test_rows_are_taken_where_the_kernels_are():
    weight, bias = np.arange(12).reshape(3, 4), np.arange(3)
    taken = kernels.rows((weight, bias), (2, 0))
    assert [each.tolist() for each in taken] == [[[8, 9, 10, 11], [0, 1, 2, 3]], [2, 0]]
    taken = kernels.rows((weight.T, bias), (2, 0), axis=-1)
    assert [each.T.tolist() for each in taken] == [[[8, 9, 10, 11], [0, 1, 2, 3]], [2, 0]]


def test_restoring_within_groups_puts_each_part_into_its_places():
    image = RNG.standard_normal((6, 2, 3))
    total = np.zeros_like(image)
    for order in ((1, 5), (0, 2, 3, 4)):
        weight = kernels.pointwise(kernels.restoring(order, 6, 2), 2, 0.0, RNG)
        total += convolve(image[list(order)], weight, group=2)
    np.testing.assert_array_equal(total, image)


def test_a_rectangular_identity_copies_as_many_channels_as_there_are_in_each_group():
    assert kernels.identity(3, 2).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert kernels.identity(2, 6, group=2).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("group", [1, 2])
def test_a_composed_kernel_is_one_layer_behind_the_other(group):
    image = RNG.standard_normal((4, 5, 5))
    weight = RNG.standard_normal((6, 4 // group, 3, 3)).astype(np.float32)
    after = RNG.standard_normal((6, 6 // group, 1, 1)).astype(np.float32)
    both = kernels.composed(after, weight, group)
    in_turn = convolve(convolve(image, weight, pad=1, group=group), after, group=group)
    np.testing.assert_allclose(convolve(image, both, pad=1, group=group), in_turn, rtol=1e-12)


@pytest.mark.parametrize(
    ("extent", "centre"), [((3, 3), (1, 1)), ((1, 1), (0, 0)), ((5, 3), (2, 1)), ((2, 4), (1, 2))]
)
def test_edge_preserving_scales_every_tap_and_lifts_the_centre(extent, centre):
    weight = RNG.standard_normal((2, 3, *extent)).astype(np.float32)
    result = kernels.edge_preserving(weight, -0.2, 2.0)
    for n in range(2):
        for c in range(3):
            for y in range(extent[0]):
                for x in range(extent[1]):
                    factor = 1.8 if (y, x) == centre else -0.2
                    assert result[n, c, y, x] == pytest.approx(
                        factor * weight[n, c, y, x], rel=1e-6
                    )


def test_a_difference_is_taken_in_float64_and_rounded_once(monkeypatch):
    monkeypatch.setattr(kernels, "MAX_VALUES", 20)  # Two input channels at a time.
    weight = RNG.standard_normal((2, 5, 2, 2)).astype(np.float32)
    added = RNG.standard_normal(weight.shape)
    rest = kernels.without(weight, lambda columns: added[:, columns])
    assert rest.dtype == np.float32
    np.testing.assert_array_equal(rest, (weight.astype(np.float64) - added).astype(np.float32))
