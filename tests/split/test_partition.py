import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import SplitError
from caffesplit.split.partition import partition

NAN = np.nan


def split(specification, scores, group=1, seed=0):
    return partition(specification, np.array(scores, float), np.random.default_rng(seed), group)


@pytest.mark.parametrize(
    ("specification", "fast", "slow"),
    [
        ("half", (1, 3), (0, 2, 4)),
        ("mean", (1, 3, 4), (0, 2)),
        ("threshold:0.8", (1,), (0, 2, 3, 4)),
        ("threshold:0.6", (1, 3, 4), (0, 2)),
        ("count:4", (1, 2, 3, 4), (0,)),
        ("inverse:half", (0, 2, 4), (1, 3)),
        ("inverse:threshold:0.8", (0, 2, 3, 4), (1,)),
    ],
)
def test_each_specification_chooses_the_kernels_it_names(specification, fast, slow):
    assert split(specification, [0.1, 0.9, 0.2, 0.7, 0.6]) == (fast, slow)


def test_half_of_an_odd_number_makes_the_smaller_part_fast():
    fast, slow = split("half", [0.5, 0.6, 0.7])
    assert (fast, slow) == ((2,), (0, 1))


def test_ties_go_to_the_lower_channel():
    assert split("count:2", [0.5, 0.5, 0.5]) == ((0, 1), (2,))


def test_a_score_equal_to_the_mean_or_the_threshold_is_fast():
    assert split("mean", [0.25, 0.5, 0.75])[0] == (1, 2)
    assert split("threshold:0.5", [0.25, 0.5, 0.75])[0] == (1, 2)


def test_undefined_kernels_are_slow_and_do_not_move_the_mean():
    assert split("half", [NAN, NAN, NAN, 0.1]) == ((3,), (0, 1, 2))
    assert split("mean", [NAN, 0.2, 0.4, NAN]) == ((2,), (0, 1, 3))


def test_random_draws_half_or_the_count_and_repeats_with_its_seed():
    scores = np.linspace(0, 1, 20)
    assert len(split("random", scores)[0]) == 10
    assert len(split("random:7", scores)[0]) == 7
    assert split("random", scores, seed=3) == split("random", scores, seed=3)
    assert split("random", scores, seed=3) != split("random", scores, seed=4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 5))
def test_halves_are_a_partition_of_the_kernels(scores, seed):
    for specification in ("half", "random", "inverse:half", "count:1", "inverse:random:1"):
        fast, slow = split(specification, scores, seed=seed)
        assert sorted(fast + slow) == list(range(len(scores)))
        assert fast
        assert slow


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 99))
def test_every_group_gives_the_same_number_of_fast_kernels(group, size, seed):
    scores = np.random.default_rng(seed).random(group * size)
    for specification in ("half", f"count:{group}", "random", f"random:{group}"):
        fast, _ = split(specification, scores, group)
        per_group = [sum(index // size == g for index in fast) for g in range(group)]
        assert len(set(per_group)) == 1


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        (
            "thirds",
            "partition 'thirds', expected one of half, mean, threshold:T, count:K, random, "
            "random:K, inverse:P",
        ),
        ("threshold:high", "partition 'threshold:high', expected a number, as in threshold:0.5"),
        ("count:few", "'few' fast kernels, expected a whole number of kernels"),
        (
            "count:4",
            "partition 'count:4' makes 4 of 4 kernels fast, expected at least one fast and one "
            "slow kernel\nChoose another partition, or another window.",
        ),
    ],
)
def test_what_cannot_be_a_partition_says_why(specification, message):
    with pytest.raises(SplitError) as caught:
        split(specification, [0.1, 0.2, 0.3, 0.4])
    assert str(caught.value) == message


def test_a_count_must_divide_among_the_groups():
    with pytest.raises(SplitError, match="the same for each of the 2 groups"):
        split("count:3", [0.1, 0.2, 0.3, 0.4], group=2)


def test_a_layer_whose_kernels_are_all_undefined_has_no_fast_part():
    with pytest.raises(SplitError, match="makes 0 of 2 kernels fast"):
        split("mean", [NAN, NAN])


def test_more_fast_kernels_than_have_a_tpm_are_refused():
    with pytest.raises(SplitError, match="3 fast kernels, expected at most 2: only kernels that"):
        split("count:3", [0.1, 0.2, NAN, NAN])


def test_an_inverse_of_an_inverse_is_no_partition():
    with pytest.raises(SplitError, match="expected one of half"):
        split("inverse:" * 5000 + "half", [0.1, 0.2])
