from pathlib import Path

import pytest

from caffesplit.errors import LogError
from caffesplit.formats import trainlog
from caffesplit.report.runs import (
    Result,
    Run,
    Score,
    output_name,
    read_runs,
    results,
    run_names,
    scores,
)

LOGS = Path(__file__).parent.parent / "data" / "logs"


def run(name, *values, output="accuracy", net=0):
    """A run whose tests, ten iterations apart, gave `values`."""
    rows = [trainlog.TestRow(10 * k, 0.0, 0.1, 0.0, {output: v}, net) for k, v in enumerate(values)]
    return Run(name, trainlog.TrainLog(f"{name}/train.log", (), tuple(rows), (), ()))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["exp/baseline/train.log"], ["baseline"]),
        (["exp/baseline/baseline_relu.log", "exp/derived1/train.log"], ["baseline", "derived1"]),
        (["a/derived1/train.log", "b/derived1/train.log"], ["a/derived1", "b/derived1"]),
        (["logs/one.log", "logs/two.log.gz"], ["one", "two"]),
        (["e/a/1.log", "e/a/2.log", "e/b/train.log"], ["a/1", "a/2", "b"]),
        (["e/a/train.log", "e/a/train.log.gz"], ["train", "train"]),
    ],
)
def test_a_net_is_named_by_as_much_of_its_path_as_tells_it_apart(paths, names):
    assert run_names(paths) == tuple(names)


def test_a_log_in_the_working_directory_is_named_by_that(tmp_path, monkeypatch):
    (tmp_path / "derived3").mkdir()
    monkeypatch.chdir(tmp_path / "derived3")
    assert run_names(["train.log"]) == ("derived3",)


def test_runs_are_read_with_their_names():
    (run,) = read_runs([LOGS / "caffe-resumed.log"])
    assert (run.name, len(run.log.test)) == ("caffe-resumed", 4)


def test_final_and_best_are_told_apart():
    assert results([run("baseline", 0.1, 0.9, 0.8)]) == (
        Result("baseline", Score(20, 0.8), Score(10, 0.9), "accuracy", (Score(10, 0.9),)),
    )


def test_of_equal_best_values_the_first_counts():
    assert results([run("baseline", 0.5, 0.9, 0.9)])[0].best == Score(10, 0.9)


def test_a_loss_is_best_where_it_is_smallest():
    assert results([run("a", 2.0, 1.0, 3.0, output="loss")], "loss")[0].best == Score(10, 1.0)


def test_nan_is_never_best():
    nan = float("nan")
    assert results([run("a", nan, 0.5, nan)])[0].best == Score(10, 0.5)
    assert results([run("a", nan)])[0].best is None


def test_a_metric_is_found_in_whatever_case():
    assert scores(run("a", 0.5, output="Accuracy"), "accuracy") == {0: (Score(0, 0.5),)}


def test_each_test_net_has_a_result():
    log = read_runs([LOGS / "two-test-nets.log"])[0].log
    rows = tuple(row._replace(outputs={"accuracy": 0.5 + row.net / 4}) for row in log.test)
    two = Run("derived1", trainlog.TrainLog("derived1/train.log", (), rows, (), ()))
    assert [(result.net, result.final.value) for result in results([two])] == [
        ("derived1 #0", 0.5),
        ("derived1 #1", 0.75),
    ]


def test_a_run_without_tests_is_kept_without_values():
    _, untested = results([run("baseline", 0.5), run("derived1")])
    assert untested == Result("derived1", None, None, None)


def test_a_missing_metric_names_those_that_exist():
    with pytest.raises(LogError) as caught:
        results([run("a", 0.5, output="accuracy_top5"), run("b", 2.0, output="loss")], "top1")
    assert str(caught.value) == (
        'no test output is named "top1", expected one of accuracy_top5, loss\n'
        "Choose another with --metric."
    )


def test_logs_without_any_test_say_so():
    with pytest.raises(LogError) as caught:
        results([run("a")])
    assert str(caught.value) == (
        'no test output is named "accuracy", expected a log with tests\n'
        "Give the solver a test_interval."
    )


@pytest.mark.parametrize(
    ("outputs", "name"),
    [
        (["loss", "top5_acc", "Accuracy"], "Accuracy"),
        (["loss", "top1_acc", "top5_acc"], "top1_acc"),
        (["loss", "Accuracy1"], "Accuracy1"),
        (["loss"], None),
    ],
)
def test_the_accuracy_is_the_output_of_that_name_else_the_first_that_is_called_like_it(
    outputs, name
):
    row = trainlog.TestRow(0, 0.0, 0.1, 0.0, dict.fromkeys(outputs, 0.5), 0)
    log = trainlog.TrainLog("a/train.log", (), (row,), (), ())
    assert output_name(Run("a", log)) == name


def test_a_metric_that_is_asked_for_is_exact():
    assert output_name(run("a", 0.5, output="top1_acc"), "acc") is None


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/acc_cap.log"], ["acc_cap"]),
        (["x/train.log.gz"], ["x"]),
        (["-"], ["stdin"]),
        (["-", "e/a/train.log"], ["stdin", "a"]),
    ],
)
def test_a_log_that_is_alone_and_standard_input_have_their_own_names(paths, names):
    assert run_names(paths) == tuple(names)
