import math
from pathlib import Path

from caffesplit.formats import trainlog
from caffesplit.report import tables
from caffesplit.report.runs import Result, Score

LOGS = Path(__file__).parent.parent / "data" / "logs"

RESULTS = (
    Result("baseline", Score(90000, 0.653201), Score(80000, 0.6533), "accuracy"),
    Result("derived1", Score(90000, 0.6617), Score(5000, 0.69), "accuracy"),
    Result("derived2", None, None, None),
)


def test_the_result_table_is_aligned_plain_text():
    assert tables.result_table(RESULTS, "accuracy").plain() == (
        "Net       Acc       Best Acc  Best at  Difference\n"
        "baseline  0.653201  0.6533      80000\n"
        "derived1  0.6617    0.69         5000  +0.0085\n"
        "derived2  -         -               -\n"
    )


def test_the_final_table_is_that_of_the_notebooks():
    assert tables.final_table(RESULTS, "accuracy").markdown() == (
        "Net | Acc\n--- | ---\nbaseline | 0.653201\nderived1 | 0.6617\nderived2 | -\n"
    )


def test_the_best_table_has_the_best_values_of_the_metric_that_was_asked_for():
    assert tables.best_table(RESULTS[:1], "top5").markdown() == (
        "Net | Best top5\n--- | ---\nbaseline | 0.6533\n"
    )


def test_a_bar_in_a_name_does_not_break_markdown():
    table = tables.Table(("Net", "Acc"), (("a|b", "1"),))
    assert table.markdown().splitlines()[-1] == r"a\|b | 1"


def test_a_diverged_run_has_no_difference():
    diverged = Result("derived1", Score(10, math.nan), None, "accuracy")
    table = tables.result_table((RESULTS[0], diverged), "accuracy")
    assert table.rows[1] == ("derived1", "nan", "-", "-", "-")


def test_csv_has_the_columns_of_parse_log():
    log = trainlog.read(LOGS / "bvlc-1.0.log")
    assert tables.parse_log_csv(log.train) == (
        "NumIters,Seconds,LearningRate,loss\n0,2.0,0.01,2.375\n100,12.5,0.01,1.125\n"
    )
    assert tables.parse_log_csv(log.test) == (
        "NumIters,Seconds,LearningRate,accuracy,loss\n"
        "0,1.0,nan,0.1,2.5\n"
        "100,12.0,0.01,0.625,1.25\n"
        "200,23.0,0.01,0.75,1e-05\n"
    )


def test_csv_tells_test_nets_apart_and_leaves_missing_outputs_empty():
    log = trainlog.read(LOGS / "two-test-nets.log")
    assert tables.parse_log_csv(log.test) == (
        "NumIters,Seconds,LearningRate,NetNum,class_accuracy,class_accuracy#1,class_accuracy#2,"
        "loss1/loss,loss2/loss,Accuracy\n"
        "500,8.0,nan,0,0.5,0.25,0.75,2.0,1.5,\n"
        "500,15.25,nan,1,,,,,,0.375\n"
    )


def test_each_tree_is_compared_with_its_own_baseline():
    nets = {"a/baseline": 0.5, "a/derived1": 0.6, "b/baseline": 0.7, "b/derived1": 0.6, "c": 0.9}
    found = tuple(Result(net, Score(9, v), Score(9, v), "accuracy") for net, v in nets.items())
    rows = tables.result_table(found, None).rows
    assert [row[-1] for row in rows] == ["", "+0.1000", "", "-0.1000", "-"]


def test_each_test_net_is_compared_with_the_baselines():
    nets = {"x #0": 0.5, "x #1": 0.6, "baseline #0": 0.7, "baseline #1": 0.9}
    found = tuple(Result(net, Score(9, v), Score(9, v), "accuracy") for net, v in nets.items())
    rows = tables.result_table(found, None).rows
    assert [row[-1] for row in rows] == ["-0.2000", "-0.3000", "", ""]
