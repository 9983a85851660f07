"""A tree of small experiments on disk: a base, its split, both controls, and a fold."""

from __future__ import annotations

import json
from pathlib import Path

import small_experiment

from caffesplit import experiment
from caffesplit.split.plan import Plan
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive

WINDOW = (100, 400)

ACCURACY = {"base": 0.5, "split1": 0.8, "longer1": 0.7, "random1": 0.75}
"""What each of the nets reaches."""

ITERATIONS = tuple(range(0, 401, 20))


def log_text(accuracy: float, loss: float = 1.0, end: str = "Optimization Done.") -> str:
    """A log of 400 iterations, tested every 100; `accuracy` comes at the last, `loss` halves."""
    lines = ["I0102 03:04:05.000000 7 solver.cpp:60] Solving small"]
    for iteration in ITERATIONS:
        stamp = f"I0102 03:04:{5 + iteration // 10:02}.500000 7 solver.cpp:1]"
        if iteration % 100 == 0:
            reached = accuracy * (iteration + 100) / 500
            lines += [
                f"{stamp} Iteration {iteration}, Testing net (#0)",
                f"{stamp}     Test net output #0: accuracy = {reached:.6g}",
                f"{stamp}     Test net output #1: loss = {loss / 2} (* 1 = {loss / 2} loss)",
            ]
        lines += [
            f"{stamp} Iteration {iteration} (1 iter/s, 1s/20 iters), "
            f"loss = {loss * 400 / (400 + iteration):.6g}",
            f"{stamp}     Train net output #0: loss = {loss} (* 1 = {loss} loss)",
            f"{stamp} Iteration {iteration}, lr = 0.01",
        ]
    return "\n".join([*lines, f"{stamp} {end}" if end else ""]).rstrip() + "\n"


def make(root: Path) -> Path:
    """root/exp with the folders of `ACCURACY`, and `folded`, which has only a fold.json."""
    base = experiment.load(small_experiment.make(root), root)
    plans = {
        "split1": decide(base, WINDOW, ["conv1"]),
        "longer1": Plan((), WINDOW, WINDOW),
        "random1": decide(base, WINDOW, ["conv1"], partition="random"),
    }
    for name, plan in plans.items():
        derive(base, plan, base.weights_path(400), root / "exp" / name)
    for name, accuracy in ACCURACY.items():
        (root / "exp" / name / "train.log").write_text(log_text(accuracy))
    folded = root / "exp/folded"
    folded.mkdir()
    (folded / "train_val.prototxt").write_text(small_experiment.NET)
    block = {
        "name": "conv1", "type": "Convolution", "layers": ["conv1_split1", "conv1_split2"],
        "parameters_before": 200, "parameters": 114, "deviation": 1.5e-8,
    }  # fmt: skip
    record = {
        "folded": [block],
        "left_alone": [{"name": "conv2", "reason": "nothing to join it with"}],
        "inputs": ["../split1/solver.prototxt", "../split1/snap_iter_400.caffemodel"],
    }
    (folded / "fold.json").write_text(json.dumps(record))
    return root / "exp"
