import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffesplit.cli.main import main

LOGS = Path(__file__).parent.parent / "data" / "logs"


@pytest.fixture
def log(monkeypatch, capsys):
    """Run `caffesplit log ARGUMENTS`; return its exit code and what it wrote."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["caffesplit", "log", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return (stop.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def exp(tmp_path):
    """A tree of experiments: baseline, derived2, derived10."""
    for name, source in [
        ("derived10", "augmentation-fork.log"),
        ("baseline", "bvlc-1.0.log"),
        ("derived2", "caffe-resumed.log"),
    ]:
        (tmp_path / "exp" / name).mkdir(parents=True)
        shutil.copy(LOGS / source, tmp_path / "exp" / name / "train.log")
    return tmp_path / "exp"


TABLE = """\
Net        Acc       Best Acc  Best at  Difference
baseline   0.75      0.75          200
derived2   1         1              20  +0.2500
derived10  0.613901  0.613901    90000  -0.1361
"""


def test_a_tree_of_experiments_gives_one_row_for_each(log, exp):
    assert log(exp) == (0, TABLE, "")


def test_logs_folders_and_solver_files_are_taken_in_the_order_given(log, exp):
    (exp / "derived2" / "solver.prototxt").touch()
    _, out, _ = log("--final", exp / "derived10/train.log", exp / "derived2/solver.prototxt", exp)
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        "derived10",
        "derived2",
        "baseline",
    ]


def test_the_folders_train_log_goes_before_other_logs(log, exp):
    shutil.copy(LOGS / "resumed.log", exp / "baseline" / "old.log")
    assert log(exp / "baseline", "--final") == (0, "Net       Acc\nbaseline  0.75\n", "")


def test_markdown_is_the_table_of_the_notebooks(log, exp):
    expected = "Net | Acc\n--- | ---\nbaseline | 0.75\nderived2 | 1\nderived10 | 0.613901\n"
    assert log(exp, "--final", "--markdown") == (0, expected, "")


def test_best_can_be_of_any_output(log, exp):
    assert log(exp / "baseline", "--best", "--metric", "LOSS") == (
        0,
        "Net       Best LOSS\nbaseline  1e-05\n",
        "",
    )


def test_an_unknown_metric_exits_with_two_and_names_the_outputs(log, exp):
    assert log(exp, "--metric", "top5") == (
        2,
        "",
        'caffesplit: no test output is named "top5", expected one of accuracy, loss, '
        "class_accuracy, class_accuracy#1, class_accuracy#2\nChoose another with --metric.\n",
    )


def test_json_on_standard_output_stands_alone(log, exp):
    code, out, _ = log(exp / "baseline", exp / "derived2", "--json", "-")
    assert code == 0
    assert json.loads(out) == {
        "metric": "accuracy",
        "nets": [
            {
                "net": "baseline",
                "metric": "accuracy",
                "final": {"iteration": 200, "value": 0.75},
                "best": {"iteration": 200, "value": 0.75},
            },
            {
                "net": "derived2",
                "metric": "accuracy",
                "final": {"iteration": 60, "value": 1.0},
                "best": {"iteration": 20, "value": 1.0},
            },
        ],
    }


def test_json_in_a_file_comes_with_the_table(log, exp, tmp_path):
    code, out, _ = log(exp, "--json", tmp_path / "out/results.json")
    assert (code, out) == (0, TABLE)
    assert len(json.loads((tmp_path / "out/results.json").read_text())["nets"]) == 3


def test_json_has_null_for_what_is_no_number(log, tmp_path):
    path = tmp_path / "a.log"
    path.write_text("Iteration 0, Testing net (#0)\n    Test net output #0: accuracy = nan\n")
    _, out, _ = log(path, "--json", "-")
    assert json.loads(out)["nets"][0]["final"] == {"iteration": 0, "value": None}


def test_csv_has_a_train_and_a_test_file_for_each_log(log, exp, tmp_path):
    code, _, _ = log(exp, "--csv", tmp_path / "csv")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == [
        "baseline_train.log.test",
        "baseline_train.log.train",
        "derived10_train.log.test",
        "derived10_train.log.train",
        "derived2_train.log.test",
        "derived2_train.log.train",
    ]


def test_csv_of_one_log_is_named_as_by_parse_log(log, tmp_path):
    log(LOGS / "bvlc-1.0.log", "--csv", tmp_path / "csv")
    assert (tmp_path / "csv/bvlc-1.0.log.train").read_text().startswith("NumIters,Seconds,")
    assert (tmp_path / "csv/bvlc-1.0.log.test").is_file()


def test_csv_can_be_had_of_a_log_without_tests(log, tmp_path):
    arguments = (LOGS / "no-prefix.log", "--csv", tmp_path / "csv")
    assert log(*arguments)[:2] == (0, "")
    assert len((tmp_path / "csv/no-prefix.log.train").read_text().splitlines()) == 3


def test_an_unknown_metric_leaves_nothing_written(log, exp, tmp_path):
    assert log(exp, "--metric", "top5", "--csv", tmp_path / "csv")[0] == 2
    assert not (tmp_path / "csv").exists()


def test_csv_is_replaced_only_with_force(log, tmp_path):
    arguments = (LOGS / "bvlc-1.0.log", "--csv", tmp_path / "csv")
    log(*arguments)
    code, _, err = log(*arguments)
    assert (code, "the output exists already" in err) == (2, True)
    assert log(*arguments, "--force")[0] == 0


def test_a_diverged_run_is_said_on_standard_error(log, tmp_path):
    text = (LOGS / "bvlc-1.0.log").read_text()
    (tmp_path / "train.log").write_text(text.replace("loss = 0.8\n", "loss = nan\n"))
    code, _, err = log(tmp_path)
    assert (code, err) == (0, f"{tmp_path.name}: diverged, loss = nan since iteration 200\n")


def test_a_folder_without_logs_is_refused(log, tmp_path):
    assert log(tmp_path) == (
        2,
        "",
        f"caffesplit: {tmp_path}: no log in this folder or below it, expected train.log or other "
        "*.log files\nGive the file that holds what `caffe train` printed.\n",
    )


def test_what_is_no_log_is_refused_and_nothing_is_written(log, tmp_path):
    (tmp_path / "a.log").write_text("hello\n")
    code, out, err = log(tmp_path / "a.log", "--csv", tmp_path / "csv", "--json", tmp_path / "j")
    assert (code, out) == (2, "")
    assert err.startswith(f"caffesplit: {tmp_path}/a.log: no line of training or testing")
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


def test_a_crashed_runs_log_is_left_out_of_a_tree_with_a_word(log, exp):
    (exp / "w700").mkdir()
    (exp / "w700" / "train.log").write_text("F0101 00:00:00.000001 7 net.cpp:1] Check failed\n")
    assert log(exp) == (
        0,
        TABLE,
        f"{exp}/w700/train.log: no line of training or testing among 1 lines; left out\n",
    )


def test_logs_of_which_none_holds_a_row_are_refused(log, tmp_path):
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text("hello\n")
    code, out, err = log(tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"caffesplit: {tmp_path}/a.log: no line of training or testing")


@pytest.mark.parametrize("name", ["solver.prototxt", "train.log", "folder"])
def test_what_does_not_exist_is_refused_even_beside_logs(log, exp, name):
    path = exp / "derived10" / "no" / name
    assert log(exp, path) == (
        2,
        "",
        f"caffesplit: {path}: no such file, expected a log, or an experiment's folder or solver\n",
    )


def test_the_accuracy_may_have_another_name_in_each_run(log, tmp_path):
    for run, output in [("a", "Accuracy1"), ("b", "accuracy")]:
        (tmp_path / run).mkdir()
        (tmp_path / run / "train.log").write_text(
            "Iteration 5, Testing net (#0)\n"
            f"    Test net output #0: loss = 2\n    Test net output #1: {output} = 0.5\n"
        )
    assert log(tmp_path, "--final") == (0, "Net  Acc\na    0.5\nb    0.5\n", "")
    _, exact, _ = log(tmp_path, "--final", "--metric", "accuracy1")
    assert exact == "Net  accuracy1\na    0.5\nb    -\n"


def test_a_log_that_is_given_alone_is_named_by_its_own_name(log, tmp_path):
    shutil.copy(LOGS / "bvlc-1.0.log", tmp_path / "acc_cap.log")
    assert log(tmp_path / "acc_cap.log", "--final")[1] == "Net      Acc\nacc_cap  0.75\n"


def test_the_log_from_standard_input_is_named_stdin(exp):
    code = "from caffesplit.cli.main import main; main()"
    for others in ([], [exp / "baseline"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "log", "-", *others, "--final"],
            input=(LOGS / "bvlc-1.0.log").read_bytes(),
            stdout=subprocess.PIPE,
            check=True,
        )
        assert done.stdout.decode().splitlines()[1].split() == ["stdin", "0.75"]


def test_the_best_tests_are_as_many_as_asked_for(log, exp):
    assert log(exp / "baseline", "--best", "2") == (
        0,
        "Net       Best Acc  Best at\nbaseline  0.75          200\nbaseline  0.625         100\n",
        "",
    )


def test_best_takes_no_log_for_its_number(log, exp):
    assert log("--best", exp / "baseline") == (0, "Net       Best Acc\nbaseline  0.75\n", "")


def test_json_has_the_best_tests(log, exp):
    _, out, _ = log(exp / "baseline", "--best", 2, "--json", "-")
    assert [score["value"] for score in json.loads(out)["nets"][0]["bests"]] == [0.75, 0.625]


def grep(path, *commands):
    """What a pipe of greps prints, as people did before."""
    done = subprocess.run(
        " | ".join([f"cat {path}", *commands]), shell=True, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def test_best_lines_are_those_of_grep_and_sort(log):
    path = LOGS / "bvlc-1.0.log"
    expected = grep(path, "grep Test", "grep acc", "sort -nk 11", "tail -2")
    assert expected.count("\n") == 2
    assert log(path, "--best", 2, "--lines") == (0, expected, "")


def test_final_lines_are_those_of_grep_without_the_foreign_ones(log):
    path = LOGS / "augmentation-fork.log"
    expected = grep(path, "grep -e Testing -e 'net output' -e Optimi.*Done")
    assert expected.count("\n") == 5
    assert log(path, "--final", "--lines") == (0, expected, "")


def test_the_best_line_of_a_loss_is_the_smallest(log):
    _, out, _ = log(LOGS / "bvlc-1.0.log", "--best", 3, "--lines", "--metric", "loss")
    assert [line.split(" = ")[1].split()[0] for line in out.splitlines()] == [
        "2.5",
        "1.25",
        "1e-05",
    ]


def test_lines_of_several_logs_have_their_paths_before_them(log, exp):
    _, out, _ = log(exp, "--best", "--lines")
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        f"{exp}/{name}/train.log" for name in ("baseline", "derived2", "derived10")
    ]


def test_events_say_what_happened_when(log):
    assert log(LOGS / "resumed.log", "--events") == (
        0,
        "Iteration  Seconds  Event     What\n"
        "        -  0.0      start     CaffeNet\n"
        "       30  25.0     snapshot  net_iter_30.caffemodel\n"
        "       40  32.0     fatal     Check failed: error == cudaSuccess (2 vs. 0)  "
        "out of memory\n"
        "       30  3600.0   resume    net_iter_30.solverstate\n"
        "       40  3600.0   start     CaffeNet\n"
        "       60  3621.0   stopped\n"
        "       60  3621.0   done\n",
        "",
    )


def test_events_are_in_json(log):
    _, out, _ = log(LOGS / "no-prefix.log", "--events", "--json", "-")
    assert json.loads(out)["events"][-1] == {
        "net": "no-prefix",
        "event": "diverged",
        "iteration": 20,
        "seconds": None,
        "value": "loss = nan",
    }


def test_events_of_several_runs_have_their_names(log, exp):
    _, out, _ = log(exp, "--events", "--markdown")
    lines = out.splitlines()
    assert lines[0] == "Net | Iteration | Seconds | Event | What"
    assert list(dict.fromkeys(line.split(" | ")[0] for line in lines[2:])) == [
        "baseline",
        "derived2",
        "derived10",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--final", "--best"], "Give one of --final, --best."),
        (["--lines"], "--lines goes with --final or --best."),
        (["--best", "0"], "0 is not in the range x>=1"),
    ],
)
def test_options_that_contradict_are_refused(log, exp, options, message):
    code, out, err = log(exp, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_the_baseline_comes_first_and_is_what_the_others_are_compared_with(log, exp):
    (exp / "baseline").rename(exp / "z")
    (exp / "a").mkdir()
    shutil.copy(LOGS / "caffe-resumed.log", exp / "a" / "train.log")
    (exp / "z").rename(exp / "baseline")
    _, out, _ = log(exp)
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["baseline", "a"]
    assert out.splitlines()[2].endswith("+0.2500")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (bytes(range(256)) * 99, "the file is binary")],
)
def test_what_is_no_text_is_refused_by_what_it_is(log, tmp_path, content, message):
    (tmp_path / "x.log").write_bytes(content)
    code, out, err = log(tmp_path / "x.log")
    assert (code, out) == (2, "")
    assert err.startswith(f"caffesplit: {tmp_path}/x.log: {message}, expected a ")


def test_the_list_of_verbs_has_whole_sentences(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["caffesplit", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]
