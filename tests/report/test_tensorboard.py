"""Event files, read back by a reader that shares no code with their writer."""

from __future__ import annotations

import math

import event_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.formats import trainlog
from caffesplit.formats.trainlog import TrainLog, TrainRow
from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.report.tensorboard import event_file, events, masked_crc32c

TRAIN = (
    TrainRow(0, 1.0, 0.1, 2.5, {"loss": 2.0}),
    TrainRow(20, 3.0, math.nan, math.inf, {}),
)
TESTS = (
    trainlog.TestRow(0, 0.5, math.nan, 2.75, {"accuracy": 0.125, "loss": 2.75}, 0),
    trainlog.TestRow(0, 0.75, math.nan, math.nan, {"accuracy": 0.25}, 1),
)
LOG = TrainLog("train.log", TRAIN, TESTS, (), ())
SCORES = WindowScores(
    (0, 20),
    (0, 10, 20),
    (
        LayerScores("conv1", (4, 1, 3, 3), np.array([0.25, 0.5, 0.5, np.nan])),
        LayerScores("still", (1, 1, 3, 3), np.array([np.nan])),
    ),
)


def written(log, scores, start=1000.0):
    return event_files.read(b"".join(event_file(events(log, scores, start))))


def test_rows_become_events_at_their_iteration_and_wall_time():
    version, found = written(LOG, [])
    assert version == "brain.Event:2"
    assert found == [
        (1001.0, 0, {"train/loss": 2.5, "train/lr": pytest.approx(0.1)}),
        (1000.5, 0, {"test/accuracy": 0.125, "test/loss": 2.75}),
        (1000.75, 0, {"test1/accuracy": 0.25}),
        (1003.0, 20, {"train/loss": math.inf}),
    ]


def test_tpm_becomes_a_histogram_at_the_windows_end():
    _, found = written(LOG, [SCORES])
    wall_time, step, values = found[-1]
    assert (wall_time, step, list(values)) == (1003.0, 20, ["tpm/conv1"])
    histogram = values["tpm/conv1"]
    least, greatest, number, total, squares = (histogram[field] for field in range(1, 6))
    assert (least, greatest, number, total, squares) == (0.25, 0.5, 3, 1.25, 0.5625)
    limits, counts = histogram[6], histogram[7]
    filled = [
        (lower, upper, count)
        for lower, upper, count in zip(limits, limits[1:], counts[1:], strict=False)
        if count
    ]
    assert len(limits) == len(counts)
    assert [count for *_, count in filled] == [1, 2]
    assert all(
        lower <= value < upper for (lower, upper, _), value in zip(filled, (0.25, 0.5), strict=True)
    )


def test_without_time_stamps_time_stands_still():
    rows = tuple(row._replace(seconds=math.nan) for row in TRAIN)
    _, found = written(TrainLog("-", rows, (), (), ()), [])
    assert [wall_time for wall_time, _, _ in found] == [1000.0, 1000.0]


def test_an_experiment_without_anything_is_a_file_without_events():
    assert written(None, []) == ("brain.Event:2", [])


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_checksums_are_those_of_crc_32c_computed_bit_by_bit(texts):
    assert [event_files.unmasked(each) for each in masked_crc32c(texts)] == [
        event_files.crc32c(text) for text in texts
    ]


def test_the_checksum_is_the_one_of_the_standard():
    assert event_files.crc32c(b"123456789") == 0xE3069283  # RFC 3720's polynomial, its check value
