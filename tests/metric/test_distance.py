"""Distances between kernels: as naive loops have them, whatever shape, block and thread."""

from __future__ import annotations

import naive_metric
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.metric import distance
from caffesplit.metric.distance import kernel_distances

PAIRS = [(0, 1), (1, 2), (0, 2), (0, 3), (2, 3)]


def random_states(seed: int, count: int, *shapes: tuple[int, ...]) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape, np.float32) for shape in shapes] for _ in range(count)]


def assert_as_naive(found, states, pairs) -> None:
    for row, (a, b) in zip(found, pairs, strict=True):
        naive = [
            naive_metric.distance(one.tolist(), other.tolist())
            for first, second in zip(states[a], states[b], strict=True)
            for one, other in zip(first, second, strict=True)
        ]
        np.testing.assert_allclose(row, naive, rtol=1e-12)


@given(
    seed=st.integers(0, 999),
    shapes=st.lists(
        st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4
    ),
    pairs=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6, unique=True
    ),
)
def test_any_pairs_of_any_layers_agree_with_naive_loops(seed, shapes, pairs):
    states = random_states(seed, 5, *shapes)

    assert_as_naive(kernel_distances(states, pairs), states, pairs)


@pytest.mark.parametrize("scratch", [2**8, 2**9, 2**12])
def test_kernels_larger_than_a_block_and_dot_products_agree_too(monkeypatch, scratch):
    """Rows of one part, of several, of an odd number of values, and of several blocks."""
    monkeypatch.setattr(distance, "SCRATCH", scratch)
    monkeypatch.setattr(distance, "MAX_DOT", 16)
    states = random_states(0, 4, (9, 5), (3, 16), (5, 33), (2, 7, 37), (1, 2000))

    assert_as_naive(kernel_distances(states, PAIRS), states, PAIRS)


def test_the_number_of_threads_does_not_change_a_bit():
    states = random_states(1, 4, (300, 900), (7, 20000), (2, 300000))

    one, *others = (kernel_distances(states, PAIRS, workers) for workers in (1, 2, 5))

    for other in others:
        np.testing.assert_array_equal(one, other)


def test_mapped_arrays_need_be_neither_aligned_nor_contiguous():
    states = random_states(2, 2, (4, 3, 2, 2))
    unaligned = [[np.ndarray(a.shape, a.dtype, b"x" + a.tobytes(), 1) for a in s] for s in states]
    strided = [[np.repeat(a, 2, axis=1)[:, ::2] for a in s] for s in states]
    doubles = [[a.astype(np.float64) for a in s] for s in states]

    for others in (unaligned, strided, doubles):
        np.testing.assert_array_equal(
            kernel_distances(states, [(0, 1)]), kernel_distances(others, [(0, 1)])
        )


def test_a_difference_that_float32_cannot_hold_is_exact():
    states = [[np.array([[1.0]], np.float32)], [np.array([[2.0**-40]], np.float32)]]

    assert kernel_distances(states, [(0, 1)]) == 1 - 2.0**-40


def test_infinity_and_nan_stay_with_their_kernel():
    states = random_states(3, 2, (3, 4))
    states[1][0][1] = np.inf
    states[1][0][2, 0] = np.nan

    ((finite, infinite, nan),) = kernel_distances(states, [(0, 1)])

    assert np.isfinite(finite)
    assert infinite == np.inf
    assert np.isnan(nan)
