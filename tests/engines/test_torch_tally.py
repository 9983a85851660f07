"""Means of a net's outputs, over as many batches as the solver asks for."""

from __future__ import annotations

import math
import re

import torch

from caffesplit.engines import torch_train
from caffesplit.engines.job import prepare
from caffesplit.engines.torch_net import Outputs
from caffesplit.engines.torch_tally import Tally
from caffesplit.experiment import load


def outputs(loss: float, *values: float) -> Outputs:
    return Outputs(torch.tensor(loss), (("each", torch.tensor(values), 0.5),))


def test_loss_and_every_value_are_means_over_the_batches():
    tally = Tally()
    for each in (outputs(1.0, 2.0, 4.0), outputs(3.0, 4.0, 8.0)):
        tally.add(each)
    (mean,) = tally.outputs()
    assert (tally.loss, mean.name, mean.values, mean.loss_weight) == (2.0, "each", [3.0, 6.0], 0.5)


def test_over_no_batches_the_loss_is_no_number_and_there_are_no_outputs():
    assert math.isnan(Tally().loss)
    assert Tally().outputs() == []


def test_a_net_that_is_tested_on_no_batches_trains(digits_root):
    solver = digits_root / "baseline/solver.prototxt"
    text = re.sub("test_iter: .*", "test_iter: 0", solver.read_text())
    solver.write_text(text + "test_compute_loss: true\n")
    outcome = torch_train.train(prepare(load(solver, digits_root)), device="cpu")
    assert (outcome.iterations, outcome.accuracy) == (100, None)
    log = (digits_root / "baseline/train.log").read_text()
    assert re.search(r"Testing net \(#0\)\n.*\] Test loss: -?nan\n.*\] Iteration 0 ", log)
    assert "Test net output" not in log
