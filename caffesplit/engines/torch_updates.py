"""Caffe's update rules: from accumulated gradients to new weights.

The order is Caffe's: clip, normalise by iter_size, add the decay, compute the update, subtract.
Source: SGDSolver::ApplyUpdate and what it calls, src/caffe/solvers/*_solver.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from caffesplit.engines.torch_net import Parameter
from caffesplit.errors import Location, WeightsError
from caffesplit.formats.blobs import Array
from caffesplit.net.solver import solver_type

Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class _Group:
    """Parameters with the same multipliers; of their history one list per kind."""

    lr_mult: float
    decay: float
    weights: Tensors
    history: tuple[Tensors, ...]


class Updater:
    """The weights' gradients applied, and the history that this takes.

    `history` is as in a solver state: one blob per parameter; AdaDelta and Adam have a second
    one for each behind all the first ones.
    """

    def __init__(self, solver: Any, parameters: Sequence[Parameter]) -> None:
        self._solver, self._rule = solver, RULES[solver_type(solver)]
        weights = [parameter.tensor for parameter in parameters]
        self.history = [torch.zeros_like(each) for each in weights * self._rule.histories]
        members: dict[tuple[float, float], list[int]] = {}
        for index, each in enumerate(parameters):
            multipliers = (each.lr_mult, solver.weight_decay * each.decay_mult)
            members.setdefault(multipliers, []).append(index)
        starts = range(0, len(self.history), len(weights) or 1)
        self._groups = [
            _Group(
                *multipliers,
                [weights[index] for index in indices],
                tuple([self.history[start + index] for index in indices] for start in starts),
            )
            for multipliers, indices in members.items()
        ]
        self._moving = self._groups
        self._find_moving()

    def _find_moving(self) -> None:
        """Leave out frozen parameters, unless their history moves, or their gradients count in
        the norm that is clipped (`force_backward`).
        """
        self._moving = [
            group
            for group in self._groups
            if group.lr_mult
            or not self._rule.rests
            or any(weight.requires_grad for weight in group.weights)
            or any(map(torch.any, group.history[0]))
        ]

    def gradients(self) -> Tensors:
        """The gradients of what moves; zeros, as Caffe has them, where none was computed."""
        found = []
        for group in self._moving:
            for weight in group.weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                found.append(weight.grad)
        return found

    def forget_gradients(self) -> None:
        """Make the next backward pass start from none."""
        for group in self._groups:
            for weight in group.weights:
                weight.grad = None

    @torch.no_grad()
    def apply(self, gradients: Tensors, rate: float, iteration: int) -> float | None:
        """Update the weights; `gradients`, summed over iter_size passes, are used up.

        `iteration` updates were made before. Returns the gradients' L2 norm if they were
        clipped, None otherwise.
        """
        norm = self._clipped(gradients)
        if self._solver.iter_size != 1:
            torch._foreach_mul_(gradients, 1 / self._solver.iter_size)
        rest = iter(gradients)
        for group in self._moving:
            own = list(islice(rest, len(group.weights)))
            self._add_decay(own, group)
            update = self._rule.update(
                self._solver, own, group.history, rate * group.lr_mult, iteration
            )
            torch._foreach_sub_(group.weights, update)
        return norm

    def _clipped(self, gradients: Tensors) -> float | None:
        limit = self._solver.clip_gradients
        if limit < 0 or not gradients:
            return None
        norms = torch.stack(torch._foreach_norm(gradients))
        norm = float(torch.linalg.vector_norm(norms))
        if not norm > limit:
            return None
        torch._foreach_mul_(gradients, limit / norm)
        return norm

    def _add_decay(self, gradients: Tensors, group: _Group) -> None:
        if not group.decay:
            return
        slope = group.weights
        if self._solver.regularization_type == "L1":
            slope = list(torch._foreach_sign(group.weights))
        torch._foreach_add_(gradients, slope, alpha=group.decay)

    def arrays(self) -> tuple[Array, ...]:
        """The history for a solver state."""
        return tuple(each.detach().cpu().contiguous().numpy() for each in self.history)

    @torch.no_grad()
    def restore(self, history: Sequence[Array], path: str) -> None:
        """Take up a solver state's history.

        Raises:
            WeightsError: if it is that of another net or type of solver.
        """
        at = Location(path)
        remedy = f"Resume with the net and the solver type ({solver_type(self._solver)}) it is of."
        if len(history) != len(self.history):
            raise WeightsError(
                f"a history of {len(history)} blobs", f"{len(self.history)}", remedy, at
            )
        for number, (found, own) in enumerate(zip(history, self.history, strict=True)):
            if found.size != own.numel():
                raise WeightsError(
                    f"a history blob of shape {found.shape}",
                    f"{tuple(own.shape)}",
                    remedy,
                    Location(path, blob=number),
                )
        for found, own in zip(history, self.history, strict=True):
            own.copy_(torch.from_numpy(found.astype("float32")).view(own.shape))
        self._find_moving()


def _sgd(solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, _: int) -> Tensors:
    (h,) = history
    torch._foreach_mul_(h, solver.momentum)
    torch._foreach_add_(h, g, alpha=rate)
    return h


def _nesterov(
    solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, _: int
) -> Tensors:
    (h,) = history
    update = list(torch._foreach_mul(h, -solver.momentum))
    _sgd(solver, g, history, rate, 0)
    torch._foreach_add_(update, h, alpha=1 + solver.momentum)
    return update


def _adagrad(solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, _: int) -> Tensors:
    (h,) = history
    torch._foreach_addcmul_(h, g, g)
    return _over_root(g, h, solver.delta, rate)


def _rmsprop(solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, _: int) -> Tensors:
    (h,) = history
    _average_square(h, g, solver.rms_decay)
    return _over_root(g, h, solver.delta, rate)


def _adadelta(
    solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, _: int
) -> Tensors:
    gradients, updates = history
    _average_square(gradients, g, solver.momentum)
    ratio = list(torch._foreach_add(updates, solver.delta))
    torch._foreach_div_(ratio, torch._foreach_add(gradients, solver.delta))
    torch._foreach_sqrt_(ratio)
    torch._foreach_mul_(g, ratio)
    _average_square(updates, g, solver.momentum)
    torch._foreach_mul_(g, rate)
    return g


def _adam(
    solver: Any, g: Tensors, history: tuple[Tensors, ...], rate: float, iteration: int
) -> Tensors:
    first, second = history
    beta1, beta2 = np.float64(solver.momentum), np.float64(solver.momentum2)
    torch._foreach_mul_(first, float(beta1))
    torch._foreach_add_(first, g, alpha=float(1 - beta1))
    _average_square(second, g, float(beta2))
    # A momentum out of range gives inf or nan, as in C++.
    with np.errstate(all="ignore"):
        correction = np.sqrt(1 - beta2 ** (iteration + 1)) / (1 - beta1 ** (iteration + 1))
    return _over_root(first, second, solver.delta, float(rate * correction))


def _average_square(average: Tensors, values: Tensors, keep: float) -> None:
    """Move a running average of squares on, keeping that share of it."""
    torch._foreach_mul_(average, keep)
    torch._foreach_addcmul_(average, values, values, value=1 - keep)


def _over_root(values: Tensors, squares: Tensors, delta: float, rate: float) -> Tensors:
    """rate * values / (sqrt(squares) + delta)"""
    root = list(torch._foreach_sqrt(squares))
    torch._foreach_add_(root, delta)
    update = list(torch._foreach_div(values, root))
    torch._foreach_mul_(update, rate)
    return update


@dataclass(frozen=True)
class Rule:
    """How many history blobs a parameter has, and the update of a group of parameters.

    `rests` tells that a history of zeros stays one where the rate is 0.
    `update(solver, gradients, history, rate, iteration)` returns what is subtracted from the
    weights, and moves the history on.
    """

    histories: int
    rests: bool
    update: Callable[[Any, Tensors, tuple[Tensors, ...], float, int], Tensors]


RULES: Mapping[str, Rule] = {
    "SGD": Rule(1, True, _sgd),
    "Nesterov": Rule(1, True, _nesterov),
    "AdaGrad": Rule(1, False, _adagrad),
    "RMSProp": Rule(1, False, _rmsprop),
    "AdaDelta": Rule(2, False, _adadelta),
    "Adam": Rule(2, False, _adam),
}
