"""The learning rate of an iteration, by Caffe's policies.

Source: SGDSolver::GetLearningRate, src/caffe/solvers/sgd_solver.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.errors import NetError


@dataclass(frozen=True)
class Rate:
    """A learning rate, and how many steps of the policy have been taken for it.

    `current_step` is what a solver state keeps; only the policies step and multistep count any.
    """

    value: float
    current_step: int


def rate(solver: Any, iteration: int, current_step: int = 0) -> Rate:
    """The rate of the update after `iteration` updates; `solver` is a SolverParameter.

    multistep takes one step at most each time it is asked, however many a resumed run has missed.

    Raises:
        NetError: if Caffe has no such policy.
    """
    if solver.lr_policy not in POLICIES:
        raise NetError(f"lr_policy {solver.lr_policy!r}", f"one of {', '.join(POLICIES)}")
    if solver.lr_policy == "step":
        current_step = iteration // solver.stepsize
    elif solver.lr_policy == "multistep":
        is_due = (
            current_step < len(solver.stepvalue) and iteration >= solver.stepvalue[current_step]
        )
        current_step += is_due
    # Extreme values give inf or nan, as in C++.
    with np.errstate(all="ignore"):
        factor = POLICIES[solver.lr_policy](solver, np.float64(iteration), current_step)
        return Rate(float(solver.base_lr * factor), current_step)


def _steps(solver: Any, iteration: np.float64, current_step: int) -> np.float64:
    return np.float64(solver.gamma) ** current_step


def _exp(solver: Any, iteration: np.float64, current_step: int) -> np.float64:
    return np.float64(solver.gamma) ** iteration


def _inv(solver: Any, iteration: np.float64, current_step: int) -> np.float64:
    return (1 + solver.gamma * iteration) ** np.float64(-solver.power)


def _poly(solver: Any, iteration: np.float64, current_step: int) -> np.float64:
    return (1 - iteration / solver.max_iter) ** np.float64(solver.power)


def _sigmoid(solver: Any, iteration: np.float64, current_step: int) -> np.float64:
    return 1 / (1 + np.exp(-solver.gamma * (iteration - solver.stepsize)))


POLICIES: Mapping[str, Callable[[Any, np.float64, int], np.float64]] = {
    "fixed": lambda solver, iteration, current_step: np.float64(1),
    "step": _steps,
    "exp": _exp,
    "inv": _inv,
    "multistep": _steps,
    "poly": _poly,
    "sigmoid": _sigmoid,
}
"""By name: what base_lr is multiplied with."""
