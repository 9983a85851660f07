from __future__ import annotations

import math
import re

from caffesplit.engines.caffe_log import Log, Output
from caffesplit.formats import prototxt, schema, trainlog
from caffesplit.net import graph
from caffesplit.net.solver import State


def said(speak) -> list[str]:
    """The lines, without glog's prefix up to the file's name."""
    found: list[bytes] = []
    speak(Log(found.append))
    text = b"".join(found).decode()
    assert text.endswith("\n")
    return [re.sub(r"^[IWEF]\d{4} [\d:]{8}\.\d{6} +\d+ ", "", line) for line in text.splitlines()]


def test_a_line_is_stamped_as_glog_stamps_it():
    found: list[bytes] = []
    Log(found.append).line("solver.cpp:239", "Iteration 0, loss = 1")
    assert re.fullmatch(
        rb"I\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{4}\d+ solver\.cpp:239\] Iteration 0, loss = 1\n",
        found[0],
    )


def test_training_lines_are_caffes():
    outputs = [Output("acc", [0.5, 0.25]), Output("loss", [2.0], 0.3)]
    assert said(lambda log: log.trained(100, 0.123456789, 20, 20, 0.05, outputs)) == [
        "solver.cpp:239] Iteration 100 (400 iter/s, 0.05s/20 iters), loss = 0.123457",
        "solver.cpp:258]     Train net output #0: acc = 0.5",
        "solver.cpp:258]     Train net output #1: acc = 0.25",
        "solver.cpp:258]     Train net output #2: loss = 2 (* 0.3 = 0.6 loss)",
    ]
    assert said(lambda log: log.rate(100, 4e-05)) == [
        "sgd_solver.cpp:112] Iteration 100, lr = 4e-05"
    ]
    assert said(lambda log: log.clipped(40.0, 35.0)) == [
        "sgd_solver.cpp:99] Gradient clipping: scaling down gradients (L2 norm 40 > 35) by scale "
        "factor 0.875"
    ]


def test_tests_and_snapshots_are_told_as_caffe_tells_them():
    def speak(log):
        log.testing(200, 1)
        log.tested(1.5, [Output("loss", [1.5], 1.0)])
        log.snapshot("a_iter_2.caffemodel", hdf5=False)
        log.solver_state("a_iter_2.solverstate.h5", hdf5=True)

    assert said(speak) == [
        "solver.cpp:347] Iteration 200, Testing net (#1)",
        "solver.cpp:401] Test loss: 1.5",
        "solver.cpp:414]     Test net output #0: loss = 1.5 (* 1 = 1.5 loss)",
        "solver.cpp:464] Snapshotting to binary proto file a_iter_2.caffemodel",
        "sgd_solver.cpp:296] Snapshotting solver state to HDF5 file a_iter_2.solverstate.h5",
    ]


def test_numbers_that_are_none_are_printed_as_c_prints_them():
    lines = said(lambda log: log.last_loss(7, math.nan) or log.last_loss(8, math.inf))
    assert [line.rpartition(" ")[2] for line in lines] == ["nan", "inf"]


def test_nets_and_solvers_are_printed_as_the_text_they_are():
    net = graph.build(prototxt.parse('layer { name: "d" type: "Input" top: "x" }'))
    lines = said(lambda log: log.net("n", State("TEST", 2, ("a",)), net.layers))
    assert lines == [
        "net.cpp:53] Initializing net from parameters: ",
        'name: "n"',
        "state {",
        "  phase: TEST",
        "  level: 2",
        '  stage: "a"',
        "}",
        "layer {",
        '  name: "d"',
        '  type: "Input"',
        '  top: "x"',
        "}",
    ]
    solver = schema.message_class("SolverParameter")(base_lr=0.5)
    assert said(lambda log: log.solver(solver))[1:] == ["base_lr: 0.5"]


def test_the_lines_read_back_as_records():
    found: list[bytes] = []
    log = Log(found.append)
    log.solving("n", "fixed")
    log.trained(10, 0.5, 10, 10, 0.1, [Output("loss", [0.25], 1.0)])
    log.rate(10, 0.01)
    log.testing(10, 0)
    log.tested(None, [Output("accuracy", [0.75])])
    log.failed("no more data")
    records = list(trainlog.records(b"".join(found).decode().splitlines()))
    train = next(each for each in records if isinstance(each, trainlog.TrainRow))
    test = next(each for each in records if isinstance(each, trainlog.TestRow))
    assert (train.iteration, train.lr, train.loss, train.outputs) == (10, 0.01, 0.5, {"loss": 0.25})
    assert (test.iteration, test.outputs) == (10, {"accuracy": 0.75})
    assert [each.kind for each in records if isinstance(each, trainlog.Event)] == ["start", "fatal"]
