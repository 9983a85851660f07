import gzip
import itertools
import math
import re
import subprocess
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import LogError
from caffesplit.formats import trainlog

LOGS = Path(__file__).parent.parent / "data" / "logs"
ALL_LOGS = sorted(LOGS.glob("*.log"))


def read(name):
    return trainlog.read(LOGS / name)


def rows(lines):
    return [record for record in trainlog.records(lines) if not isinstance(record, trainlog.Event)]


def without_lines(records):
    """The records with their own lines taken off."""
    return tuple(
        record._replace(lines=())
        if isinstance(record, trainlog.TestRow)
        else record._replace(line="")
        for record in records
    )


def same(one, other):
    """Equal, nan included."""
    return repr(one) == repr(other)


# The dialects


def test_a_training_row_has_its_loss_its_outputs_and_its_own_rate():
    assert read("bvlc-1.0.log").train[:2] == (
        trainlog.TrainRow(0, 2.0, 0.01, 2.4, {"loss": 2.375}),
        trainlog.TrainRow(100, 12.5, 0.01, 1.2, {"loss": 1.125}),
    )


def test_the_display_line_at_the_end_is_a_row_without_outputs():
    assert read("bvlc-1.0.log").train[2:] == (trainlog.TrainRow(200, 22.5, 0.01, 0.8, {}),)


def test_a_test_row_has_the_time_of_its_result_and_the_rate_last_printed():
    tests = without_lines(read("bvlc-1.0.log").test)
    assert same(
        tests[0], trainlog.TestRow(0, 1.0, math.nan, 2.5, {"accuracy": 0.1, "loss": 2.5}, 0)
    )
    assert tests[1:] == (
        trainlog.TestRow(100, 12.0, 0.01, 1.25, {"accuracy": 0.625, "loss": 1.25}, 0),
        trainlog.TestRow(200, 23.0, 0.01, 1e-05, {"accuracy": 0.75, "loss": 1e-05}, 0),
    )


def test_events_say_what_happened_between_the_rows():
    assert without_lines(read("bvlc-1.0.log").events) == (
        trainlog.Event("finetune", None, 0.0, "./init.caffemodel"),
        trainlog.Event("start", None, 0.0, "digits"),
        trainlog.Event("step", 150, 17.0, "1"),
        trainlog.Event("snapshot", 200, 22.0, "snap_iter_200.caffemodel"),
        trainlog.Event("solverstate", 200, 22.1, "snap_iter_200.solverstate"),
        trainlog.Event("done", 200, 23.0002, ""),
        trainlog.Event("done", 200, 23.0003, ""),
    )


def test_v0999_prints_the_rate_before_the_loss_and_scores_without_names():
    log = read("v0.999.log")
    assert log.train == (
        trainlog.TrainRow(20, 3.1, 0.001, 2.3, {}),
        trainlog.TrainRow(40, 4.1, 0.0005, 2.2, {}),
    )
    assert [dict(row.outputs) for row in log.test] == [{"score#0": 0.1, "score#1": 2.302}]
    assert [(event.kind, event.value) for event in log.events] == [
        ("start", "CIFAR10_quick"),
        ("snapshot", "cifar_iter_40"),
        ("solverstate", "cifar_iter_40.solverstate"),
        ("done", ""),
    ]


def test_nvcaffe_puts_devices_before_and_more_numbers_behind():
    log = read("nvcaffe-0.17.log")
    assert log.train == (
        trainlog.TrainRow(0, 0.3, 0.1, 7.0, {"loss": 7.1}),
        trainlog.TrainRow(50, 20.0, 0.05, 3.5, {"loss": 3.4}),
    )
    assert [(row.iteration, row.outputs) for row in log.test] == [
        (0, {"accuracy": 0.001}),
        (99, {"detection_eval": 0.7}),
    ]
    assert [event.kind for event in log.events] == ["start", "stopped", "done"]


def test_foreign_lines_inside_a_test_do_not_end_it():
    (row,) = read("augmentation-fork.log").test
    assert (row.iteration, row.outputs) == (90000, {"accuracy": 0.613901, "loss": 1.43467})


def test_a_vector_valued_output_has_numbered_elements():
    row = read("two-test-nets.log").test[0]
    assert dict(row.outputs) == {
        "class_accuracy": 0.5,
        "class_accuracy#1": 0.25,
        "class_accuracy#2": 0.75,
        "loss1/loss": 2.0,
        "loss2/loss": 1.5,
    }


def test_the_loss_of_a_test_is_the_weighted_total():
    first, second = read("two-test-nets.log").test
    assert first.loss == pytest.approx(0.6 + 1.5)
    assert math.isnan(second.loss)


def test_test_nets_are_told_apart():
    assert [(row.iteration, row.net) for row in read("two-test-nets.log").test] == [
        (500, 0),
        (500, 1),
    ]


def test_time_goes_on_over_new_year():
    log = read("two-test-nets.log")
    assert [row.seconds for row in log.test] == [8.0, 15.25]
    assert [row.seconds for row in log.train] == [16.0]


@pytest.mark.parametrize(
    ("stamps", "hours"),
    [
        (["0228 23", "0301 00"], 1),
        (["0228 23", "0229 23", "0301 00"], 25),
        (["1231 23", "0101 00"], 1),
        (["0301 00", "0228 23"], -1),
    ],
)
def test_dates_without_a_year_are_put_in_order(stamps, hours):
    lines = [
        f"I{stamp}:00:00.000000  1 solver.cpp:1] Iteration {number}, loss = 1"
        for number, stamp in enumerate(stamps)
    ]
    assert list(trainlog.records(lines))[-1].seconds == hours * 3600


def test_glog_may_print_the_year():
    lines = [
        "I20240611 10:00:00.000000  1 solver.cpp:1] Iteration 0, loss = 2",
        "I20240611 10:00:01.500000  1 solver.cpp:1] Iteration 10, loss = 1",
    ]
    assert [row.seconds for row in trainlog.records(lines)] == [0.0, 1.5]


def test_without_glogs_prefix_there_are_rows_but_no_times():
    rows = read("no-prefix.log").train
    assert [row.iteration for row in rows] == [0, 20, 40, 60]
    assert all(math.isnan(row.seconds) for row in rows)


def test_a_last_line_without_its_newline_is_left_out():
    text = "Iteration 0, loss = 2\nIteration 20, loss = 1\nIteration 40, loss = 0.12"
    parser = trainlog.Parser()
    rows = parser.feed(text) + parser.close()
    assert [row.iteration for row in rows] == [0, 20]


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("nan", math.nan),
        ("-nan", math.nan),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("-1.#IND", math.nan),
        ("-nan(ind)", math.nan),
        ("1e-05", 1e-05),
        ("87.3365", 87.3365),
    ],
)
def test_every_spelling_of_a_number_is_read(printed, value):
    (row,) = rows([f"Iteration 0, loss = {printed}"])
    assert same(row.loss, value)


@pytest.mark.parametrize(
    "line",
    [
        "I0525 10:00:10.000000 10 sgd_solver.cpp:50] MultiStep Status: Iteration 150, step = 1",
        "Iteration 20, loss = 2.I0525 10:00:10.000000    11 solver.cpp:228] Solving x",
        "Iteration 20, loss = ",
        "Iteration 99999999999999999999, loss = 1",
        "    Test net output #0: accuracy = 0.5",
    ],
)
def test_what_is_no_row_makes_none(line):
    assert rows([line]) == []


def test_a_test_that_was_stopped_before_its_result_is_no_row():
    lines = ["Iteration 40, Testing net (#0)", "Test interrupted.", "Iteration 40, loss = 1"]
    assert [type(record) for record in trainlog.records(lines)] == [trainlog.TrainRow]


def test_of_rows_printed_twice_the_later_run_counts_and_the_earlier_is_kept_aside():
    log = read("resumed.log")
    assert [(row.iteration, row.loss, row.lr) for row in log.train] == [
        (0, 7.0, 0.01),
        (20, 6.0, 0.01),
        (40, 4.5, 0.005),
        (60, 4.0, 0.005),
    ]
    assert [(row.iteration, row.loss) for row in log.superseded] == [(40, 5.0)]


def test_a_crash_is_an_event_with_its_message():
    events = read("resumed.log").events
    assert [(event.kind, event.value) for event in events] == [
        ("start", "CaffeNet"),
        ("snapshot", "net_iter_30.caffemodel"),
        ("fatal", "Check failed: error == cudaSuccess (2 vs. 0)  out of memory"),
        ("resume", "net_iter_30.solverstate"),
        ("start", "CaffeNet"),
        ("stopped", ""),
        ("done", ""),
    ]


def test_a_log_of_real_caffe_that_was_resumed_reads_as_one_run():
    log = read("caffe-resumed.log")
    assert [row.iteration for row in log.train] == [0, 10, 20, 30, 40, 50, 60]
    assert [row.iteration for row in log.test] == [0, 20, 40, 60]
    assert [row.iteration for row in log.superseded] == [20, 30, 40, 20, 40]
    assert log.train[1].loss == 0.735327
    assert log.train[3].lr == 0.005
    assert log.test[-1].outputs["class_accuracy#1"] == 1.0
    assert log.finished


def test_a_run_has_diverged_from_the_first_of_its_last_bad_losses():
    assert read("no-prefix.log").diverged_at == 20
    assert read("bvlc-1.0.log").diverged_at is None


def test_a_saturated_loss_has_diverged():
    (row,) = rows(["Iteration 0, loss = 87.3365"])
    assert row.diverged


def test_caffe_test_gives_one_row_of_its_means():
    (row,) = read("caffe-test.log").test
    assert (row.iteration, row.loss) == (0, 1.0)
    assert row.outputs == {"accuracy": 0.625, "class": 1.0, "class#1": 0.25, "loss": 1.0}


def test_the_lines_of_caffe_test_mean_nothing_in_a_training():
    assert rows(["Loss: 1.5", "accuracy = 0.5"]) == []


def test_the_memory_of_a_net_is_what_its_last_layer_says():
    events = read("caffe-test.log").events
    assert [(event.kind, event.value) for event in events] == [("memory", "1600")]


def test_the_rate_that_another_gpu_prints_does_not_end_a_row():
    assert [(row.iteration, dict(row.outputs)) for row in read("two-gpus.log").train[:2]] == [
        (0, {"acc": 0.25, "loss": 3.0}),
        (20, {"acc": 0.5, "loss": 2.25}),
    ]


def test_a_row_that_another_line_ran_into_is_left_out_and_the_next_is_whole():
    assert [row.iteration for row in read("two-gpus.log").train] == [0, 20, 60]


def test_the_net_is_named_without_what_follows_on_its_line():
    events = read("two-gpus.log").events
    assert [event.value for event in events if event.kind == "start"] == ["pair"]


def test_a_divergence_is_an_event_where_it_starts():
    events = read("no-prefix.log").events
    assert [(event.iteration, event.value) for event in events if event.kind == "diverged"] == [
        (20, "loss = nan")
    ]


@pytest.mark.parametrize("noise", ["", "a foreign line\n"], ids=["columns", "lines"])
def test_a_divergence_has_the_line_of_its_row(noise):
    first, *others = (
        f"I0525 10:00:{second}.000000  42 solver.cpp:228] Iteration {10 * second}, loss = {loss}\n"
        f"{noise}I0525 10:00:{second}.000000  42 sgd.cpp:1] Iteration {10 * second}, lr = 1\n"
        for second, loss in [(20, 1), (21, 2), (22, "nan"), (23, "nan"), (24, "nan")]
    )
    (event,) = (
        record
        for record in trainlog.Parser().feed(first + "".join(others))
        if isinstance(record, trainlog.Event)
    )
    assert event.line == "I0525 10:00:22.000000  42 solver.cpp:228] Iteration 220, loss = nan"


LINE = " 10:00:00.250000  1 solver.cpp:1] Iteration 0, loss = 2\n"


@pytest.mark.parametrize(
    ("text", "latest", "time"),
    [
        ("I20240611" + LINE, "2000-01-01", "2024-06-11"),
        ("Log file created at: 2015/06/11 10:00:00\nI0611" + LINE, "2024-01-01", "2015-06-11"),
        ("I0611" + LINE, "2024-06-12", "2024-06-11"),
        ("I0611" + LINE, "2024-06-10", "2023-06-11"),
        ("I0229" + LINE, "2023-12-31", "2020-02-29"),
        ("I0231" + LINE, "2023-12-31", None),
    ],
    ids=["own year", "head", "this year", "last year", "leap year", "no such day"],
)
def test_the_time_of_second_0_has_the_year_that_the_log_tells_or_the_last_possible_one(
    tmp_path, text, latest, time
):
    (tmp_path / "train.log").write_text(text)
    zero = trainlog.read(tmp_path / "train.log").zero
    expected = datetime.fromisoformat(f"{time} 10:00:00.250000") if time else None
    assert zero.time(datetime.fromisoformat(latest)) == expected


def test_second_0_is_the_start_of_the_training():
    assert read("bvlc-1.0.log").zero.text == "0611 10:00:01.000000"
    assert read("no-prefix.log").zero is None


def test_a_test_keeps_its_own_lines_and_no_foreign_ones():
    (row,) = read("augmentation-fork.log").test
    assert [line.partition("] ")[2].strip() for line in row.lines] == [
        "Iteration 90000, Testing net (#0)",
        "Test net output #0: accuracy = 0.613901",
        "Test net output #1: loss = 1.43467 (* 1 = 1.43467 loss)",
    ]


ROW = re.compile(r"Iteration (\d+)[^\n]*, loss = [-\d.einfa#QN]+$", re.MULTILINE)


@pytest.mark.parametrize("path", ALL_LOGS, ids=lambda path: path.name)
def test_no_row_is_lost(path):
    log = trainlog.read(path)
    found = [row.iteration for row in (*log.train, *log.superseded) if hasattr(row, "diverged")]
    assert sorted(found) == sorted(map(int, ROW.findall(path.read_text())))


def test_rows_are_the_same_read_at_once_and_line_by_line():
    lines = []
    for iteration in range(0, 400, 20):
        stamp = f"I0525 10:{iteration // 60:02}:{iteration % 60:02}.500000   42 "
        lines += [
            f"{stamp}solver.cpp:228] Iteration {iteration} (2 iter/s, 10s/20 iters), loss = 2.5",
            f"{stamp}solver.cpp:244]     Train net output #0: top = 0.5",
            f"{stamp}solver.cpp:244]     Train net output #1: top = 1e-05",
            f"{stamp}solver.cpp:244]     Train net output #2: loss = nan (* 1 = nan loss)",
            f"{stamp}sgd_solver.cpp:106] Iteration {iteration}, lr = 0.01",
        ]
        if iteration % 100 == 0:
            lines.insert(-1, f"{stamp}sgd_solver.cpp:46] MultiStep Status: Iteration 7, step = 1")
    at_once = trainlog.Parser().feed("\n".join(lines) + "\n")
    assert same(list(at_once), list(trainlog.records(lines)))
    found = [record for record in at_once if isinstance(record, trainlog.TrainRow)]
    assert [row.iteration for row in found] == list(range(0, 400, 20))
    assert list(found[3].outputs) == ["top", "top#1", "loss"]


def test_a_log_without_its_training_rows_says_the_same_of_tests_and_divergence(tmp_path):
    for path in ALL_LOGS:
        whole, tests = trainlog.read(path), trainlog.read(path, training=False)
        assert same((tests.test, tests.events), (whole.test, whole.events))
        assert same(tests.train[-1:], whole.train[-1:])
        assert tests.diverged_at == whole.diverged_at
        assert len(tests.train) <= 2


def test_a_dataframe_has_a_row_for_each_row():
    frame = read("bvlc-1.0.log").to_dataframe()
    assert list(frame.columns) == [
        *("phase", "net", "iteration", "seconds", "lr", "loss", "output loss", "accuracy")
    ]
    assert list(frame["iteration"]) == [0, 100, 200, 0, 100, 200]
    assert frame[frame.phase == "test"]["accuracy"].max() == 0.75


def test_without_pandas_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LogError) as caught:
        read("bvlc-1.0.log").to_dataframe()
    assert str(caught.value) == (
        "pandas is not installed, expected it for a DataFrame\n"
        "Run `pip install pandas`, or use the rows in `.train` and `.test`."
    )


# Files


def test_records_streams_over_a_file_as_over_its_lines():
    path = LOGS / "caffe-resumed.log"
    assert same(list(trainlog.records(path)), list(trainlog.records(path.read_text().splitlines())))


def test_a_file_that_fails_while_it_is_read_is_refused():
    with pytest.raises(LogError, match=r"the log cannot be read \(Input/output error\)"):
        trainlog.read("/proc/self/mem")


def test_a_log_that_starts_with_a_hole_of_zeros_is_read(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(bytes(300_000) + b"\nIteration 0, loss = 1\n")
    assert [row.iteration for row in trainlog.read(path).train] == [0]


def test_a_log_that_is_one_endless_line_takes_little_memory(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"Iteration 0, loss = " + b"1" * 30_000_000)
    tracemalloc.start()
    with pytest.raises(LogError, match="no line of training or testing among 0 lines"):
        trainlog.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


def test_streaming_takes_no_more_memory_for_a_longer_log(tmp_path):
    path = tmp_path / "train.log"
    peaks = []
    for times in (10, 200):
        path.write_text((LOGS / "caffe-resumed.log").read_text() * times)
        tracemalloc.start()
        for _ in trainlog.records(path):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 + 1_000_000


def test_a_gzipped_log_reads_like_the_log(tmp_path):
    path = tmp_path / "train.log.gz"
    path.write_bytes(gzip.compress((LOGS / "caffe-resumed.log").read_bytes()))
    log, zipped = read("caffe-resumed.log"), trainlog.read(path)
    assert same((log.train, log.test), (zipped.train, zipped.test))


def test_standard_input_reads_like_the_log():
    program = "from caffesplit.formats import trainlog; print(len(trainlog.read('-').train))"
    text = (LOGS / "caffe-resumed.log").read_text()
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"hello\nworld\n", "no line of training or testing among 2 lines"),
        (b"\x00\xff" * 1000, "the file is binary"),
        (b"x" * 1_000_000, "no line of training or testing among 0 lines"),
        (
            gzip.compress(b"Iteration 0, loss = 1\n" * 99)[:-20],
            "the log cannot be read (Compressed file ended before the end-of-stream marker was "
            "reached)",
        ),
    ],
    ids=["empty", "text", "binary", "one line", "cut gzip"],
)
def test_what_is_no_log_is_refused(tmp_path, content, message):
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(LogError) as caught:
        trainlog.read(path)
    assert str(caught.value).startswith(f"{path}: {message}, expected ")
    assert "\nGive the file that holds what `caffe train` printed." in str(caught.value)


def test_the_refusal_shows_what_a_log_looks_like(tmp_path):
    path = tmp_path / "x.log"
    path.touch()
    with pytest.raises(
        LogError, match=r'expected a log with lines like "Iteration 100, loss = 2\.3"'
    ):
        trainlog.read(path)


@pytest.mark.parametrize(
    ("name", "reason"), [(".", "Is a directory"), ("missing", "No such file or directory")]
)
def test_what_cannot_be_opened_is_refused(tmp_path, name, reason):
    with pytest.raises(LogError, match=rf"the log cannot be read \({reason}\)"):
        trainlog.read(tmp_path / name)


# Growing logs


@pytest.mark.parametrize("path", ALL_LOGS, ids=lambda path: path.name)
@given(data=st.data())
def test_a_growing_log_reads_at_any_time_as_if_it_were_whole(tmp_path_factory, path, data):
    content = path.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    log = tmp_path_factory.mktemp("growing") / "train.log"
    log.touch()
    growing = trainlog.Growing(log)
    for start, end in itertools.pairwise([0, *cuts, len(content)]):
        with log.open("ab") as file:
            file.write(content[start:end])
        assert growing.read_on() == (end > start)
        once = trainlog.Growing(log)
        once.read_on()
        assert same(growing.log, once.log)
    assert not growing.read_on()
    assert same(growing.log, trainlog.read(log))


@pytest.mark.parametrize("lines", [1, 2, 9], ids=["shorter", "of its length", "longer"])
def test_a_log_that_was_replaced_is_read_anew(tmp_path, lines):
    path = tmp_path / "train.log"
    path.write_text("Iteration 0, loss = 1\nIteration 1, loss = 1\n")
    growing = trainlog.Growing(path)
    growing.read_on()
    path.write_text("".join(f"Iteration {place}, loss = 2\n" for place in range(lines)))
    assert growing.read_on()
    assert [row.loss for row in growing.log.train] == [2.0] * lines


def test_a_gzipped_log_that_has_grown_is_read_anew(tmp_path):
    path = tmp_path / "train.log.gz"
    growing = trainlog.Growing(path)
    for rows in (1, 2):
        path.write_bytes(
            gzip.compress(
                "".join(f"Iteration {place}, loss = 1\n" for place in range(rows)).encode()
            )
        )
        assert growing.read_on()
        assert not growing.read_on()
        assert len(growing.log.train) == rows


def test_a_growing_log_that_has_gone_keeps_its_rows(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("Iteration 0, loss = 1\n")
    growing = trainlog.Growing(path)
    growing.read_on()
    path.unlink()
    with pytest.raises(LogError, match="No such file or directory"):
        growing.read_on()
    assert len(growing.log.train) == 1


# Laws


@pytest.mark.parametrize("path", ALL_LOGS, ids=lambda path: path.name)
@given(data=st.data())
def test_the_pieces_a_log_comes_in_make_no_difference(path, data):
    text = path.read_text()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    parser = trainlog.Parser()
    found = []
    for start, end in itertools.pairwise([0, *cuts, len(text)]):
        found += parser.feed(text[start:end])
    found += parser.close()
    assert same(found, list(trainlog.records(text.splitlines(keepends=True))))


@given(
    st.lists(
        st.one_of(
            st.sampled_from([line for path in ALL_LOGS for line in path.read_text().splitlines()]),
            st.text(),
        )
    ),
    st.data(),
)
def test_no_line_breaks_the_parser(lines, data):
    cut = [line[: data.draw(st.integers(0, len(line)))] for line in lines[:10]]
    for record in trainlog.records(lines + cut):
        assert isinstance(record, trainlog.TrainRow | trainlog.TestRow | trainlog.Event)


@given(st.binary(), st.sampled_from(ALL_LOGS), st.integers(0), st.integers(0, 50))
def test_a_damaged_log_reads_or_is_refused(tmp_path_factory, noise, log, place, length):
    content = log.read_bytes()
    place %= len(content)
    path = tmp_path_factory.getbasetemp() / "damaged.log"
    path.write_bytes(content[:place] + noise + content[place + length :])
    try:
        rows = trainlog.read(path).train
    except LogError:
        return
    assert [row.iteration for row in rows] == sorted({row.iteration for row in rows})


@pytest.mark.parametrize(
    "piece", ["Iteration 1 (", "Iteration ", "Test net output #0: ", "] ", "a.", "Solving"]
)
def test_a_hostile_line_costs_linear_time_and_bounded_memory(piece):
    parser = trainlog.Parser()
    for _ in range(100):
        assert parser.feed(piece * 10_000) == ()
    assert len(parser._unfinished) <= 1 << 16
    assert all(isinstance(record, trainlog.Event) for record in parser.feed("\n"))
