"""Several processes train as one does with all of their batches together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from caffesplit import experiment
from caffesplit.engines import job, torch_train
from caffesplit.formats import caffemodel, snapshots, trainlog

PROGRAM = """
import sys
from caffesplit import experiment
from caffesplit.engines import job, torch_train
root = sys.argv[1]
planned = job.prepare(experiment.load(root + "/baseline", root), force=True)
done = torch_train.train(planned, device="cpu").iterations
sys.stdout.write(f"{done}\\n")  # At once: both processes write to one pipe.
"""


def adapted(root: Path, batch_size: int) -> None:
    net, solver = root / "baseline/train_val.prototxt", root / "baseline/solver.prototxt"
    text = net.read_text().replace('type: "Dropout"', 'type: "Power"')
    net.write_text(text.replace("batch_size: 4\n", f"batch_size: {batch_size}\n"))
    lines = solver.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("max_iter", "test_interval"))]
    solver.write_text("\n".join([*kept, "max_iter: 30", "test_interval: 30", "clip_gradients: 2"]))


def test_two_processes_train_as_one_with_twice_the_batch(digits_root):
    adapted(digits_root, 8)
    planned = job.prepare(experiment.load(digits_root / "baseline", digits_root))
    torch_train.train(planned, device="cpu")
    whole = dict(caffemodel.read(digits_root / "baseline/digits_iter_30.caffemodel"))
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace("batch_size: 8\n", "batch_size: 4\n"))
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    program = digits_root / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [*run, program, digits_root], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.split() == ["30", "30"]
    parts = dict(caffemodel.read(digits_root / "baseline/digits_iter_30.caffemodel"))
    for name, blobs in whole.items():
        for one, other in zip(blobs, parts[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    log = trainlog.read(digits_root / "baseline/train.log")
    assert [row.iteration for row in log.train] == [0, 10, 20, 30]
    assert [row.iteration for row in log.test] == [0, 30]
    assert [each.iteration for each in snapshots.find(digits_root / "baseline/digits")] == [30]
