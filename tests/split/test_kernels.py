import numpy as np
import pytest
from naive_net import convolve

from caffesplit.split import kernels

RNG = np.random.default_rng(0)


def test_restoring_undoes_the_order_of_concatenation():
    image = RNG.standard_normal((5, 2, 3))
    order = (3, 0, 4, 2, 1)
    weight = kernels.pointwise(kernels.restoring(order), 2, 0.0, RNG)
    np.testing.assert_array_equal(convolve(image[list(order)], weight), image)


def test_a_pointwise_identity_without_noise_is_exact_and_draws_nothing():
    rng = np.random.default_rng(1)
    weight = kernels.pointwise(kernels.identity(4), 2, 0.0, rng)
    assert weight.shape == (4, 4, 1, 1)
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight[:, :, 0, 0], np.eye(4))
    assert rng.integers(1 << 30) == np.random.default_rng(1).integers(1 << 30)


def test_noise_has_the_standard_deviation_asked_for():
    weight = kernels.pointwise(kernels.identity(200), 2, 0.01, np.random.default_rng(2))
    noise = weight[:, :, 0, 0] - np.eye(200)
    assert noise.std() == pytest.approx(0.01, rel=0.02)
    assert abs(noise.mean()) < 0.0005


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
