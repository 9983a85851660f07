from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from caffesplit.formats import trainlog
from caffesplit.report import figures, style
from caffesplit.report.curves import _spread, curves, smoothed
from caffesplit.report.runs import Run, read_runs

LOGS = Path(__file__).parent.parent / "data" / "logs"


@pytest.fixture
def runs():
    return read_runs([LOGS / "bvlc-1.0.log", LOGS / "caffe-resumed.log"])


def renamed(log, *names):
    return [Run(name, read_runs([LOGS / log])[0].log) for name in names]


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_loss_and_accuracy_have_a_panel_each_over_the_same_iterations(runs):
    loss, accuracy = curves(runs).axes
    assert loss.get_ylabel() == "loss, log scale"
    assert accuracy.get_ylabel() == "test accuracy, from 0.606"
    assert accuracy.get_xlabel() == "iteration"
    assert loss.get_xlim() == accuracy.get_xlim()


def test_the_curves_are_the_rows_of_the_logs(runs):
    loss, accuracy = curves(runs).axes
    train, _, test, _ = loss.lines
    assert_array_equal(train.get_xydata(), [(0, 2.4), (100, 1.2), (200, 0.8)])
    assert_array_equal(test.get_xydata(), [(0, 2.5), (100, 1.25), (200, 1e-05)])
    assert_array_equal(accuracy.lines[0].get_xydata(), [(0, 0.1), (100, 0.625), (200, 0.75)])


def test_avg_smooths_the_training_loss_alone(runs):
    loss, accuracy = curves(runs, avg=3).axes
    train, _, test, _ = loss.lines
    assert_allclose(train.get_ydata(), [2.4, (2.4 + 1.2 + 0.8) / 3, 0.8])
    assert_array_equal(test.get_ydata(), [2.5, 1.25, 1e-05])
    assert_array_equal(accuracy.lines[0].get_ydata(), [0.1, 0.625, 0.75])


def test_each_run_has_one_colour_throughout(runs):
    loss, accuracy = curves(runs).axes
    assert {line.get_color() for line in loss.lines[::2]} == {style.COLOURS[0]}
    assert {line.get_color() for line in accuracy.lines[:2]} == {style.COLOURS[0]}
    assert accuracy.texts[0].get_color() == style.COLOURS[0]


def test_the_end_of_each_accuracy_is_marked_and_written_beside_it(runs):
    accuracy = curves(runs).axes[1]
    dot = accuracy.lines[1]
    assert (dot.get_marker(), dot.get_xydata().tolist()) == ("o", [[200.0, 0.75]])
    assert labels(accuracy) == ["0.75  bvlc-1.0", "1.00  caffe-resumed"]


def test_the_legend_says_which_stroke_is_which(runs):
    legend = curves(runs, avg=4).axes[0].get_legend()
    assert [text.get_text() for text in legend.texts] == ["train, mean of 5", "test"]


def test_without_the_metric_the_loss_stands_alone_with_the_labels():
    figure = curves(renamed("no-prefix.log", "a"))
    (loss,) = figure.axes
    assert loss.get_ylabel() == "loss, log scale"
    assert labels(loss) == ["87.34  a (diverged)"]


def test_a_loss_that_stays_within_a_decade_has_a_linear_axis():
    (loss,) = curves(renamed("resumed.log", "a")).axes
    assert loss.get_ylabel() == "loss"


def test_what_is_not_finite_is_left_out():
    (loss,) = curves(renamed("no-prefix.log", "a")).axes
    assert_array_equal(loss.lines[0].get_ydata(), [2.5, np.nan, np.nan, 87.3365])


def test_a_metric_of_ones_own_is_drawn(runs):
    assert curves(runs, metric="Class_Accuracy").axes[1].get_ylabel() == "test class_accuracy"


def test_the_first_of_several_test_nets_is_drawn():
    (loss, accuracy) = curves(renamed("two-test-nets.log", "a"), metric="class_accuracy").axes
    assert_allclose(loss.lines[1].get_xydata(), [(500, 2.1)])
    assert_array_equal(accuracy.lines[0].get_xydata(), [(500, 0.5)])


def test_many_runs_differ_in_colour_or_dashes_and_their_labels_do_not_touch():
    names = [f"derived{number}" for number in range(20)]
    accuracy = curves(renamed("bvlc-1.0.log", *names)).axes[1]
    looks = {(line.get_color(), str(line._dash_pattern)) for line in accuracy.lines[40:]}
    assert len(looks) == 20
    heights = sorted(text.xy[1] for text in accuracy.texts)
    inches = np.diff(heights) * accuracy.figure.get_figheight() / 2
    assert inches.min() > 0.12
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_a_long_name_is_shortened_in_the_middle():
    accuracy = curves(renamed("bvlc-1.0.log", "baseline_" * 5)).axes[1]
    assert labels(accuracy) == ["0.75  baseline_basel…ine_baseline_"]


def test_a_given_figure_is_drawn_anew(runs):
    figure = curves(runs)
    assert curves(runs[:1], figure=figure) is figure
    assert len(figure.axes) == 2
    assert len(figure.axes[0].lines) == 2


NUMBERS = st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")), max_size=30)


@given(NUMBERS, st.integers(1, 40))
def test_smoothing_is_the_mean_of_the_values_around(values, count):
    expected = []
    for place in range(len(values)):
        reach = min(count // 2, place, len(values) - 1 - place)
        around = values[place - reach : place + reach + 1]
        expected.append(sum(around) / len(around))
    assert_allclose(smoothed(np.array(values), count), expected, atol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_spread_heights_keep_their_order_and_distance(heights):
    places = _spread(heights, 0.05)
    order = sorted(range(len(heights)), key=lambda index: (heights[index], -index))
    assert np.all(np.diff([places[index] for index in order]) >= 0.05 - 1e-9)
    assert max(places) <= 1


def test_heights_with_room_between_them_stay():
    assert _spread([0.9, 0.1, 0.5], 0.05) == [0.9, 0.1, 0.5]


def run_of(name, *values, output="accuracy"):
    """A run whose tests, ten iterations apart, gave `values`."""
    rows = [trainlog.TestRow(10 * k, 0.0, 0.1, 1.0, {output: v}, 0) for k, v in enumerate(values)]
    return Run(name, trainlog.TrainLog(f"{name}/train.log", (), tuple(rows), (), ()))


def test_only_a_bad_start_is_cut_off_and_the_axis_says_so():
    axes = curves([run_of("a", 0.1, 0.2, 0.8, 0.85, 0.9, 0.88)]).axes[1]
    assert_allclose(axes.get_ylim(), (0.795, 0.905))
    assert axes.get_ylabel() == "test accuracy, from 0.795"


def test_a_best_value_is_never_cut_off_however_early_it_comes():
    axes = curves([run_of("a", 0.1, 0.99, 0.8, 0.85, 0.9, 0.88)]).axes[1]
    assert axes.get_ylim()[1] > 0.99


def test_where_smaller_is_better_a_bad_start_is_cut_off_above():
    run = run_of("a", 9.0, 0.1, 0.5, 0.4, 0.3, 0.3, output="test_loss")
    axes = curves([run], metric="test_loss").axes[1]
    assert_allclose(axes.get_ylim(), (0.08, 0.52))
    assert axes.get_ylabel() == "test test_loss, up to 0.52"


def test_a_start_within_the_rest_is_not_cut_off():
    axes = curves([run_of("a", 0.85, 0.8, 0.9, 0.8, 0.85, 0.9)]).axes[1]
    assert axes.get_ylabel() == "test accuracy"


def test_each_runs_own_accuracy_is_drawn():
    axes = curves([run_of("a", 0.5, output="top1_acc"), run_of("b", 0.6)]).axes[1]
    assert axes.get_ylabel() == "test accuracy"
    assert labels(axes) == ["0.5  a", "0.6  b"]


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    figures.save(curves([run_of("cost$^a", 0.5), run_of("b$}", 0.6)]), tmp_path / "a.svg")
    assert "cost$^a" in (tmp_path / "a.svg").read_text()


def test_a_number_beyond_caffes_is_drawn_as_none(tmp_path):
    figure = curves([run_of("a", 0.5, 1e308, -1e308), run_of("b", 3e38, 0.1)])
    figures.save(figure, tmp_path / "a.png")
    assert_array_equal(figure.axes[1].lines[0].get_ydata(), [0.5, np.nan, np.nan])
    assert labels(figure.axes[1]) == ["a", "0.1  b"]


def test_values_too_large_for_decimals_are_written_short():
    assert labels(curves([run_of("a", 2e30), run_of("b", 0.5)]).axes[1]) == ["2e+30  a", "0.5  b"]
