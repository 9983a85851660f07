import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from caffesplit.report.points import LARGEST, Points, drawable, smoothed

NUMBERS = st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")), max_size=30)
NAN = float("nan")


def points(*values):
    return Points(np.arange(len(values), dtype=float), np.array(values, dtype=float))


@given(NUMBERS, st.integers(1, 40))
def test_smoothing_is_the_mean_of_the_values_around(values, count):
    expected = []
    for place in range(len(values)):
        reach = min(count // 2, place, len(values) - 1 - place)
        around = values[place - reach : place + reach + 1]
        expected.append(sum(around) / len(around))
    assert_allclose(smoothed(np.array(values), count), expected, atol=1e-9)


def naively_thinned(x, y, columns):
    """The places of what a picture shows: a column after the other, by looking at every point."""
    width = (max(x) - min(x)) / columns or 1.0
    groups = []
    for place, value in enumerate(x):
        column = int((value - min(x)) / width)
        if not groups or groups[-1][0] != column:
            groups.append((column, []))
        groups[-1][1].append(place)
    kept = set()
    for _, places in groups:
        there = [place for place in places if not np.isnan(y[place])]
        kept |= {places[0], places[-1]}
        kept |= {min(there, key=lambda p: y[p]), max(there, key=lambda p: y[p])} if there else set()
    return kept


@given(
    st.lists(st.floats(-1e3, 1e3, width=16) | st.just(NAN), min_size=1, max_size=80, unique=True),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_thinning_keeps_each_columns_first_last_lowest_and_highest_point(values, columns, seed):
    x = np.sort(np.random.default_rng(seed).integers(0, 50, len(values))).astype(float)
    thin = Points(x, np.array(values)).thinned(columns)
    if len(values) <= 4 * columns:
        assert len(thin.x) == len(values)
        return
    pairs = list(zip(thin.x.tolist(), thin.y.tolist(), strict=True))
    for place in naively_thinned(x, values, columns):
        assert any(a == x[place] and (b == values[place] or b != b) for a, b in pairs)


def test_a_peak_of_one_in_a_million_points_is_kept_and_little_else():
    y = np.zeros(1_000_000)
    y[123_456], y[654_321] = 9, -9
    thin = Points(np.arange(1e6), y).thinned(1000)
    assert len(thin.x) <= 4000
    assert (thin.y.max(), thin.y.min()) == (9, -9)
    assert thin.x[[0, -1]].tolist() == [0, 999_999]


def test_a_gap_stays_one():
    y = np.zeros(10_000)
    y[5000:5100] = NAN
    thin = Points(np.arange(1e4), y).thinned(1000)
    inside = np.isnan(thin.y)
    assert inside.any()
    assert ((thin.x[inside] >= 5000) & (thin.x[inside] < 5100)).all()


def test_thinning_a_million_points_takes_a_moment():
    many = Points(np.arange(1e6), np.random.default_rng(0).standard_normal(1_000_000))
    start = time.perf_counter()
    many.thinned(2000)
    assert time.perf_counter() - start < 2


def test_points_that_all_lie_at_one_place_are_thinned_too():
    thin = Points(np.zeros(100), np.arange(100.0)).thinned(2)
    assert thin.y.tolist() == [0, 99]


@pytest.mark.parametrize(
    ("values", "alone"),
    [((1,), [1]), ((1, 2), []), ((1, NAN, 2, 3), [1]), ((NAN, 1, NAN), [1]), ((), [])],
)
def test_alone_are_points_without_a_neighbour(values, alone):
    assert points(*values).alone().y.tolist() == alone


def test_the_last_of_no_points_is_nan():
    assert np.isnan(points().last)
    assert points(1, 2).last == 2


def test_what_no_axis_can_show_is_nan():
    values = drawable([1.0, float("inf"), -float("inf"), NAN, 2 * LARGEST, LARGEST])
    assert_array_equal(values, [1, NAN, NAN, NAN, NAN, LARGEST])
