from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_run
from numpy.testing import assert_allclose, assert_array_equal

from caffesplit.report import figures, style
from caffesplit.report.curves import curves
from caffesplit.report.runs import Run, read_runs
from caffesplit.report.series import COLUMNS

LOGS = Path(__file__).parent.parent / "data" / "logs"
NAN = float("nan")


@pytest.fixture
def runs():
    return read_runs([LOGS / "bvlc-1.0.log", LOGS / "caffe-resumed.log"])


def renamed(log, *names):
    return [Run(name, read_runs([LOGS / log])[0].log) for name in names]


def labels(axes):
    return [text.get_text() for text in axes.texts if text.get_text() != "last value"]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_loss_accuracy_and_learning_rate_have_a_panel_each_over_the_same_iterations(runs):
    figure = curves(runs)
    loss, accuracy, rate = figure.axes
    assert titles(figure) == ["Loss", "Accuracy in tests, drawn from 0.606 up", "Learning rate"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss, log scale", "accuracy", "lr"]
    assert rate.get_xlabel() == "iteration"
    assert loss.get_xlim() == accuracy.get_xlim() == rate.get_xlim()


def test_the_curves_are_the_rows_of_the_logs(runs):
    loss, accuracy, _ = curves(runs).axes
    train, _, test, _ = loss.lines
    assert_array_equal(train.get_xydata(), [(0, 2.4), (100, 1.2), (200, 0.8)])
    assert_array_equal(test.get_xydata(), [(0, 2.5), (100, 1.25), (200, 1e-05)])
    assert_array_equal(accuracy.lines[0].get_xydata(), [(0, 0.1), (100, 0.625), (200, 0.75)])


def test_avg_smooths_the_training_loss_alone(runs):
    loss, accuracy, _ = curves(runs, avg=3).axes
    train, _, test, _ = loss.lines
    assert_allclose(train.get_ydata(), [2.4, (2.4 + 1.2 + 0.8) / 3, 0.8])
    assert_array_equal(test.get_ydata(), [2.5, 1.25, 1e-05])
    assert_array_equal(accuracy.lines[0].get_ydata(), [0.1, 0.625, 0.75])


def test_each_run_has_one_colour_throughout(runs):
    loss, accuracy, _ = curves(runs).axes
    assert {line.get_color() for line in loss.lines[::2]} == {style.COLOURS[0]}
    assert {line.get_color() for line in accuracy.lines[:2]} == {style.COLOURS[0]}


def test_the_end_of_each_accuracy_is_marked_and_written_beside_it(runs):
    accuracy = curves(runs).axes[1]
    dot = accuracy.lines[1]
    assert (dot.get_marker(), dot.get_xydata().tolist()) == ("o", [[200.0, 0.75]])
    assert labels(accuracy) == ["0.75  bvlc-1.0", "1.00  caffe-resumed"]


def test_the_legend_says_which_stroke_is_which(runs):
    legend = curves(runs, avg=4).axes[0].get_legend()
    assert [text.get_text() for text in legend.texts] == ["training, mean of 5", "tests"]


def test_without_tests_there_is_no_panel_for_them_and_the_loss_has_the_labels():
    figure = curves([made_run("a", [2, 1.5], lr=[2, 1]), made_run("b", [2, 1.25], lr=[2, 1])])
    assert titles(figure) == ["Loss", "Learning rate, the same in all runs"]
    assert labels(figure.axes[0]) == ["1.50  a", "1.25  b"]


def test_the_loss_of_tests_comes_before_that_of_training_beside_the_panel():
    run = made_run("a", [2, 1.5], test={0: [{"loss": 1.0}, {"loss": 0.5}]})
    assert labels(curves([run]).axes[0]) == ["0.5  a"]


def test_without_training_rows_tests_alone_are_drawn():
    figure = curves([made_run("a", test=[0.5, 0.6])])
    loss, accuracy = figure.axes
    assert [text.get_text() for text in loss.get_legend().texts] == ["tests"]
    assert accuracy.get_xlabel() == "iteration"


def test_a_loss_within_a_decade_has_a_linear_axis_unless_asked_otherwise():
    run = made_run("a", [3.0, 1.0])
    assert curves([run]).axes[0].get_yscale() == "linear"
    assert curves([run], log=True).axes[0].get_yscale() == "log"
    assert curves([made_run("a", [30.0, 1.0])], log=False).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("losses", [(0, 0), (-1, -2), (NAN, NAN), (-1, 0, 300), ()])
def test_a_logarithmic_axis_of_losses_that_have_no_logarithm_is_no_failure(losses, tmp_path):
    figures.save(curves([made_run("a", losses)], log=True), tmp_path / "a.png")


@pytest.mark.parametrize("losses", [(3, 0.2), (2.5, 0.8), (1e30, 3e38, 1), (1e-38, 1)])
def test_the_numbers_of_a_logarithmic_axis_are_few_and_plain(losses):
    figure = curves([made_run("a", losses)], log=True)
    figure.draw_without_rendering()
    loss = figure.axes[0]
    low, high = loss.get_ylim()
    shown = [tick.get_text() for tick in loss.get_yticklabels() if low <= tick._y <= high]
    assert 2 <= len(shown) <= 8
    assert all(float(number) > 0 for number in shown)
    assert not loss.yaxis.get_minorticklocs().size


def test_what_is_not_finite_is_left_out_and_the_label_says_since_when():
    run = made_run("a", [2.5, 2.0, NAN, float("inf")], [0.5])
    loss, accuracy = curves([run]).axes
    assert_array_equal(loss.lines[0].get_ydata(), [2.5, 2.0, NAN, NAN])
    assert labels(accuracy) == ["0.5  a, diverged at 20"]


def test_losses_that_were_not_finite_for_a_while_are_counted():
    accuracy = curves([made_run("a", [2.5, NAN, NAN, 2.0], [0.5])]).axes[1]
    assert labels(accuracy) == ["0.5  a, 2 losses not finite"]


def test_a_point_between_gaps_is_a_dot():
    loss = curves([made_run("a", [2.5, 2.0, NAN, 1.5, NAN])]).axes[0]
    assert loss.lines[1].get_marker() == "o"
    assert loss.lines[1].get_xydata().tolist() == [[30, 1.5]]


def test_a_run_of_one_row_is_drawn_and_its_iteration_written(tmp_path):
    figure = curves([made_run("a", [2.5], [0.5])])
    assert [axes.lines[1].get_marker() for axes in figure.axes] == ["o"] * 2
    assert figure.axes[-1].get_xticks().tolist() == [0]
    figures.save(figure, tmp_path / "a.png")


def test_a_resumed_run_is_one_curve_of_the_later_rows():
    (run,) = read_runs([LOGS / "caffe-resumed.log"])
    assert run.log.superseded
    drawn = curves([run]).axes[0].lines[0].get_xdata()
    assert (np.diff(drawn) > 0).all()


def test_a_metric_of_ones_own_is_drawn(runs):
    assert len(curves(runs[:1], metric="Class_Accuracy").axes) == 1
    figure = curves(renamed("two-test-nets.log", "a"), metric="Class_Accuracy")
    assert titles(figure)[1].startswith("Class_accuracy in tests")


def test_test_nets_and_vectors_have_a_curve_each():
    nets = {0: [{"accuracy": 0.5}], 1: [{"accuracy": 0.25}]}
    assert labels(curves([made_run("a", test=nets)]).axes[1]) == ["0.50  a #0", "0.25  a #1"]
    vector = {0: [{"acc": 0.5, "acc#1": 0.7, "loss": 2.0}]}
    loss, accuracy = curves([made_run("a", test=vector)]).axes
    assert labels(accuracy) == ["0.5  a [0]", "0.7  a [1]"]
    assert len(loss.lines) == 2  # A loss and its dot: one for the net, not one for each element.


def test_thirty_runs_differ_in_colour_or_dashes_and_their_labels_do_not_touch():
    figure = curves(renamed("bvlc-1.0.log", *(f"derived{number}" for number in range(30))))
    accuracy = figure.axes[1]
    looks = {(line.get_color(), str(line._dash_pattern)) for line in accuracy.lines[60:]}
    assert len(looks) == 30
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in accuracy.texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))


def test_a_given_figure_is_drawn_anew(runs):
    figure = curves(runs)
    assert curves(runs[:1], figure=figure) is figure
    assert len(figure.axes) == 2
    assert len(figure.axes[0].lines) == 2


def test_a_long_log_is_thinned_to_what_a_picture_shows():
    losses = [1.0] * 100_000
    losses[77_777] = 9.0
    train = curves([made_run("a", losses)]).axes[0].lines[0]
    assert len(train.get_xdata()) <= 4 * COLUMNS
    assert train.get_ydata().max() == 9


def test_runs_are_drawn_over_epochs_or_time():
    runs = [made_run(name, [3, 2, 1], lr=[3, 2, 1]) for name in "ab"]
    axes = curves(runs, scale="epoch", epochs=[10, 20]).axes[-1]
    assert axes.get_xlabel() == "epoch"
    assert [line.get_xdata()[-1] for line in axes.lines] == [2, 1]
    assert curves(runs, scale="time").axes[-1].get_xlabel() == "training time, seconds"


def test_a_learning_rate_of_several_runs_is_drawn_once_in_gray():
    rates = {"a": [1, 2], "b": [1, 2], "c": 5}
    runs = [made_run(name, [3, 2], lr=rate) for name, rate in rates.items()]
    figure = curves(runs)
    assert titles(figure)[-1] == "Learning rate (gray: of several runs)"
    colours = [line.get_color() for line in figure.axes[-1].lines]
    assert colours == [style.QUIET, style.COLOURS[2]]


@pytest.mark.parametrize(
    ("rates", "title", "names"),
    [
        ((0.1, 0.1), "Loss at learning rate 0.1", ["a", "b"]),
        ((0.1, 0.02), "Loss", ["a, lr 0.1", "b, lr 0.02"]),
        ((0.1, NAN), "Loss at learning rate 0.1", ["a", "b"]),
        ((NAN, NAN), "Loss", ["a", "b"]),
    ],
)
def test_a_learning_rate_that_no_run_changes_is_written_and_not_drawn(rates, title, names):
    runs = [
        made_run(name, [3, 2], [0.5, 0.6], lr=rate) for name, rate in zip("ab", rates, strict=True)
    ]
    figure = curves(runs)
    assert titles(figure) == [title, "Accuracy in tests"]
    assert [label.split("  ")[1] for label in labels(figure.axes[1])] == names


def test_a_learning_rate_that_falls_to_a_tenth_has_a_logarithmic_axis():
    assert curves([made_run("a", [3, 2], lr=[0.1, 0.01])]).axes[-1].get_yscale() == "log"
    assert curves([made_run("a", [3, 2], lr=[0.1, 0.0])]).axes[-1].get_yscale() == "linear"


def test_only_a_bad_start_is_cut_off_and_the_title_says_so():
    run = made_run("a", test=[0.1, 0.2, 0.8, 0.85, 0.9, 0.88])
    figure = curves([run, run])
    assert_allclose(figure.axes[1].get_ylim(), (0.795, 0.905))
    assert titles(figure)[1] == "Accuracy in tests, drawn from 0.795 up"


def test_of_a_run_that_is_alone_nothing_is_cut_off():
    figure = curves([made_run("a", test=[0.1, 0.2, 0.8, 0.85, 0.9, 0.88])])
    assert figure.axes[1].get_ylim()[0] < 0.1
    assert titles(figure)[1] == "Accuracy in tests"


def test_a_best_value_is_never_cut_off_however_early_it_comes():
    run = made_run("a", test=[0.1, 0.99, 0.8, 0.85, 0.9, 0.88])
    assert curves([run, run]).axes[1].get_ylim()[1] > 0.99


def test_where_smaller_is_better_a_bad_start_is_cut_off_above():
    values = [9.0, 0.1, 0.5, 0.4, 0.3, 0.3]
    run = made_run("a", test={0: [{"test_loss": value} for value in values]})
    figure = curves([run, run], metric="test_loss")
    assert_allclose(figure.axes[1].get_ylim(), (0.08, 0.52))
    assert titles(figure)[1] == "Test_loss in tests, drawn up to 0.52"


def test_a_start_within_the_rest_is_not_cut_off():
    run = made_run("a", test=[0.85, 0.8, 0.9, 0.8, 0.85, 0.9])
    assert titles(curves([run, run]))[1] == "Accuracy in tests"


def test_of_runs_whose_tests_end_in_nan_nothing_is_cut_off():
    run = made_run("a", test=[0.5, NAN, NAN])
    assert titles(curves([run, run]))[1] == "Accuracy in tests"


def test_each_runs_own_accuracy_is_drawn():
    runs = [made_run("a", test={0: [{"top1_acc": 0.5}]}), made_run("b", test=[0.6])]
    axes = curves(runs).axes[1]
    assert axes.get_ylabel() == "accuracy"
    assert labels(axes) == ["0.5  a", "0.6  b"]


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    runs = [made_run("cost$^a", test=[0.5]), made_run("b$}", test=[0.6])]
    figures.save(curves(runs), tmp_path / "a.svg")
    assert "cost$^a" in (tmp_path / "a.svg").read_text()


def test_a_number_beyond_caffes_is_drawn_as_none(tmp_path):
    figure = curves([made_run("a", test=[0.5, 1e308, -1e308]), made_run("b", test=[3e38, 0.1])])
    figures.save(figure, tmp_path / "a.png")
    assert_array_equal(figure.axes[1].lines[0].get_ydata(), [0.5, NAN, NAN])
    assert labels(figure.axes[1]) == ["a", "0.1  b"]


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda log: log.name)
def test_every_kind_of_log_can_be_drawn(log, tmp_path):
    figures.save(curves(read_runs([log]), avg=3), tmp_path / "a.png")
