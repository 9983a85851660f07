import numpy as np
import pytest
from made_runs import made_run
from numpy.testing import assert_allclose

from caffesplit.errors import LogError
from caffesplit.report.series import horizontal, lines

NAN = float("nan")


def places(run, scale, epochs=()):
    axis = horizontal([run], scale, epochs)
    return axis.label, axis.losses(0, run.log.train).x.tolist()


def labels(*runs, metric=None):
    return [(line.label, line.net, line.output) for line in lines(runs, metric)]


def test_a_run_with_one_test_net_has_its_own_name():
    assert labels(made_run("a", test=[0.5])) == [("a", 0, "accuracy")]


def test_test_nets_are_told_apart_each_with_its_own_accuracy():
    run = made_run("a", test={0: [{"accuracy": 0.5}], 1: [{"top1_acc": 0.4, "loss": 1.0}]})
    assert labels(run) == [("a #0", 0, "accuracy"), ("a #1", 1, "top1_acc")]


def test_the_elements_of_a_vector_valued_output_are_told_apart():
    run = made_run("a", test={0: [{"acc": 0.1, "acc#1": 0.2, "acc#2": 0.3, "loss": 1.0}]})
    assert labels(run) == [("a [0]", 0, "acc"), ("a [1]", 0, "acc#1"), ("a [2]", 0, "acc#2")]
    assert labels(run, metric="ACC#1") == [("a", 0, "acc#1")]


def test_a_run_without_tests_or_without_the_output_has_a_line_without_one():
    assert labels(made_run("a", [1.0])) == [("a", 0, None)]
    assert labels(made_run("a", test=[0.5]), metric="top5") == [("a", 0, None)]


def test_iterations_are_the_default():
    assert places(made_run("a", [3, 2, 1]), "iteration") == ("iteration", [0, 10, 20])


def test_an_epoch_is_each_runs_own():
    runs = [made_run("a", [3, 2, 1]), made_run("b", [3, 2, 1])]
    axis = horizontal(runs, "epoch", [10, 5])
    assert axis.losses(0, runs[0].log.train).x.tolist() == [0, 1, 2]
    assert axis.losses(1, runs[1].log.train).x.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("rows", "label", "last"),
    [
        (3, "training time, seconds", 20),
        (13, "training time, minutes", 2),
        (721, "training time, hours", 2),
        (25921, "training time, days", 3),
    ],
)
def test_time_has_the_unit_that_fits_the_longest_run(rows, label, last):
    short, long = made_run("a", [1.0]), made_run("b", [1.0] * rows)
    axis = horizontal([short, long], "time")
    assert axis.label == label
    assert_allclose(axis.losses(1, long.log.train).x[-1], last)


def test_the_pause_before_a_run_was_resumed_is_left_out():
    run = made_run("a", [4, 3, 2, 1], starts=[(0, 0.0), (20, 5000.0)])
    assert run.log.train[2].seconds == 5020
    assert places(run, "time") == ("training time, seconds", [0, 10, 10, 20])


def test_starts_that_came_to_nothing_are_left_out_with_it():
    run = made_run("a", [4, 3, 2, 1], starts=[(0, 0.0), (20, 700.0), (20, 300.0)])
    assert places(run, "time")[1] == [0, 10, 10, 20]


def test_time_starts_with_the_first_row_of_a_log_that_was_joined_the_wrong_way_round():
    run = made_run("a", [3, 2, 1], starts=[(0, -90.0)])
    assert run.log.train[0].seconds == -90
    assert places(run, "time")[1] == [0, 10, 20]


def test_rows_without_a_time_stamp_are_left_out_of_a_log_that_has_some():
    run = made_run("a", [3, 2, 1], lr=0.5)
    rows = run.log.train
    log = type(run.log)("a", (rows[0], rows[1]._replace(seconds=NAN), rows[2]), (), (), ())
    assert places(type(run)("a", log), "time")[1] == [0, 20]


def test_a_log_without_time_stamps_cannot_be_drawn_over_time():
    run = made_run("a", [3, 2, 1], starts=[(0, NAN)])
    with pytest.raises(LogError) as caught:
        horizontal([run], "time")
    assert str(caught.value) == (
        "a/train.log: no line has a time stamp, expected glog's, as in I1121 05:00:00.123456\n"
        "Draw this log over iterations: --x iteration."
    )


def test_learning_rates_and_outputs_are_those_of_the_rows_that_have_them():
    run = made_run("a", [3, 2, 1], [0.5, 0.6], lr=[NAN, 0.1, 0.01])
    axis = horizontal([run])
    rates = axis.rates(0, run.log.train)
    assert np.transpose([rates.x, rates.y]).tolist() == [[10, 0.1], [20, 0.01]]
    assert axis.outputs(0, run.log.test, "accuracy").y.tolist() == [0.5, 0.6]
    assert axis.outputs(0, run.log.test, "top5").y.tolist() == []
