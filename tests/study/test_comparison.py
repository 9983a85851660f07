"""Tables of a study: means, spreads, and paired intervals, against computations of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from caffesplit.study.comparison import Difference, best_difference, half_width, rows, table
from caffesplit.study.stages import Comparison, Stage
from caffesplit.study.study import Base

accuracies = st.integers(0, 1000).map(lambda count: count / 1000)


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=9))
def test_the_interval_is_that_of_a_paired_t_test(pairs):
    split, control = zip(*pairs, strict=True)
    assume(len({round(own - other, 6) for own, other in pairs}) > 1)
    values = {"split": dict(enumerate(split)), "control": dict(enumerate(control))}
    found = best_difference("split", ["control"], values)
    interval = stats.ttest_rel(split, control).confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(interval.low, abs=1e-9)
    assert found.mean + found.half_width == pytest.approx(interval.high, abs=1e-9)


def test_the_interval_of_three_values_has_students_value_of_the_tables():
    sample = [0.5, 0.7, 0.6]
    # 4.303: Student's t for 95 % and 2 degrees of freedom, as printed in tables of it.
    expected = 4.303 * np.std(sample, ddof=1) / np.sqrt(3)
    assert half_width(sample) == pytest.approx(expected, rel=1e-4)


def test_one_value_has_no_interval():
    assert half_width([0.5]) is None


VALUES = {
    "split": {1: 0.5, 2: 0.7},
    "low": {1: 0.2, 2: 0.3},
    "high": {1: 0.6, 2: 0.65},
}


def test_the_best_control_is_the_one_that_leaves_least():
    found = best_difference("split", ["low", "high"], VALUES)
    assert (found.control, found.mean, found.pairs) == ("high", pytest.approx(-0.025), 2)


def test_of_losses_the_smallest_is_the_best_control():
    found = best_difference("split", ["low", "high"], VALUES, smaller_is_better=True)
    assert (found.control, found.mean) == ("low", pytest.approx(0.35))


def test_pairs_are_of_one_seed():
    values = {"split": {1: 0.5, 2: 0.7, 3: 0.9}, "control": {2: 0.6, 9: 0.0}}
    assert best_difference("split", ["control"], values) == Difference(
        "control", pytest.approx(0.1), None, 1
    )


def test_a_control_without_a_seed_in_common_is_no_control():
    assert best_difference("split", ["control"], {"split": {1: 0.5}, "control": {2: 0.6}}) is None
    assert best_difference("split", ["gone"], {"split": {1: 0.5}}) is None
    assert best_difference("gone", ["control"], {"control": {1: 0.5}}) is None


def stage(name: str) -> Stage:
    return Stage(1, name, "base", f"what {name} is", Base("b"), (), None, "")


STAGES = [stage("split"), stage("control"), stage("other")]
COMPARED = [Comparison("split", ("control", "other"))]


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_left_out_and_poisons_nothing(odd):
    values = {
        "split": {1: 0.5, 2: 0.7, 3: odd},
        "control": {1: 0.4, 2: odd, 3: 0.1},
        "other": {1: odd, 2: odd, 3: odd},
    }
    split, control, other = rows(STAGES, COMPARED, values)
    assert split.values == {1: 0.5, 2: 0.7}
    assert split.difference == Difference("control", pytest.approx(0.1), None, 1)
    assert control.values == {1: 0.4, 3: 0.1}
    assert other.values == {}


def test_the_table_says_what_there_is():
    values = {"split": {1: 0.5, 2: 0.75}, "control": {1: 0.5, 2: 0.5}}
    assert table(rows(STAGES, COMPARED, values), "Accuracy").markdown() == (
        "Net | Accuracy | Seeds | Difference | 95 % interval | to | What it is\n"
        "--- | --- | --- | --- | --- | --- | ---\n"
        "split | 0.6250 ± 0.1768 | 2 | +0.1250 | -1.4633 … +1.7133 | control | what split is\n"
        "control | 0.5000 ± 0.0000 | 2 |  |  |  | what control is\n"
        "other | - | 0 |  |  |  | what other is\n"
    )


def test_the_table_says_of_how_many_seeds_a_difference_is():
    values = {"split": {1: 0.5, 2: 0.75}, "control": {1: 0.25}}
    row = table(rows(STAGES, COMPARED, values), "Accuracy").rows[0]
    assert row[3:6] == ("+0.2500", "-", "control (in 1 of 2 seeds)")


def test_a_single_seed_has_neither_spread_nor_interval():
    values = {"split": {1: 0.5}, "control": {1: 0.25}}
    row = table(rows(STAGES, COMPARED, values), "Accuracy").rows[0]
    assert row[1:6] == ("0.5000", 1, "+0.2500", "-", "control")
