"""Named rules of a solver that trains: data, applied in order.

An error is what Caffe refuses, or trains nothing with; a warning is what it runs with, though
hardly as it was meant, and fields that only a fork may know.

Sources: Solver::Init and InitTestNets in src/caffe/solver.cpp, SGDSolver in
src/caffe/solvers/sgd_solver.cpp, the constructors in include/caffe/sgd_solvers.hpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain, pairwise
from typing import Any

from caffesplit.errors import Location
from caffesplit.formats import schema
from caffesplit.formats.prototxt import Message
from caffesplit.net.findings import Finding, limited
from caffesplit.net.solver import GENERIC_FIELDS, NET_FIELDS, TYPES, net_nodes, solver_type

POLICIES: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "step": ("stepsize", "gamma"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("stepvalue", "gamma"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
"""The fields that each lr_policy computes the rate with, beside base_lr and max_iter."""
REGULARIZATIONS = ("L1", "L2")
WITHOUT_MOMENTUM = ("AdaGrad", "RMSProp")


@dataclass(frozen=True)
class Solver:
    """A solver's text, and its values with Caffe's defaults."""

    tree: Message
    values: Any
    path: str

    def given(self, name: str) -> bool:
        return self.tree.get(name) is not None

    def breach(
        self, rule: str, name: str, message: str, warning: bool = False, **more: Any
    ) -> Finding:
        """A finding at the field `name`; at the file, where it is missing."""
        field = self.tree.get(name)
        place = field.location(self.path) if field else Location(self.path)
        return Finding(rule, message, place, warning, **more)


def check_solver(tree: Message, path: str = "<text>") -> tuple[Finding, ...]:
    """What is wrong with a solver, whatever its nets are.

    Raises:
        PrototxtError: if a value is not of its field's type.
        NetError: if there is not exactly one net to train.
    """
    own = reduce(lambda rest, name: rest.without(name), NET_FIELDS, tree)
    typed = schema.read(own, "SolverParameter", path)
    trained, *tested = [field for field, _ in net_nodes(tree, path)]
    count = len(typed.message.test_iter) if trained in GENERIC_FIELDS else len(tested)
    solver = Solver(tree, typed.message, path)
    rules = (finding for rule in RULES for finding in rule(solver))
    return limited(chain(_unknown(typed), rules, tests_in_time(solver, count)))


def _unknown(typed: schema.Typed) -> Iterator[Finding]:
    for each in typed.unknown:
        message = f"{each.message_name} has no {each.name!r} in BVLC Caffe"
        yield Finding("unknown-field", message, each.location, True, each.name, known=each.known)


def known_type(solver: Solver) -> Iterator[Finding]:
    """One of Caffe's types, in today's words or in those of before 2016, but not in both."""
    if solver.given("type") and solver.given("solver_type"):
        message = "`type` beside `solver_type`, its old form, expected one of the two"
        yield solver.breach("solver-type", "solver_type", message)
    name = solver.values.type
    if name not in TYPES:
        message = f"type {name!r}, expected one of {', '.join(TYPES)}"
        yield solver.breach("solver-type", "type", message, subject=name, known=TYPES)


def known_policy(solver: Solver) -> Iterator[Finding]:
    name = solver.values.lr_policy
    if name not in POLICIES:
        found = f"lr_policy {name!r}" if solver.given("lr_policy") else "no lr_policy"
        message = f"{found}, expected one of {', '.join(POLICIES)}"
        yield solver.breach("lr-policy", "lr_policy", message, subject=name, known=tuple(POLICIES))


def policy_fields(solver: Solver) -> Iterator[Finding]:
    """The fields that the policy needs; Caffe takes a missing gamma or power for 0."""
    policy, values = solver.values.lr_policy, solver.values
    needed = POLICIES.get(policy, ())
    for name in needed:
        if name == "stepsize" and values.stepsize <= 0:
            message = f"{_shown(solver, name)} with lr_policy {policy!r}, expected 1 or more"
            yield solver.breach("policy-fields", name, message)
        elif name == "gamma" and values.gamma < 0:
            message = f"gamma {values.gamma:g} with lr_policy {policy!r}, expected 0 or more"
            yield solver.breach("policy-fields", name, message)
        elif name != "stepsize" and not solver.given(name):
            message = f"no {name}, expected it with lr_policy {policy!r}"
            message += "; the rate stays as it is" if name == "stepvalue" else "; Caffe takes 0"
            yield solver.breach("policy-fields", name, message, True, subject=name)
    ascends = all(earlier < later for earlier, later in pairwise(values.stepvalue))
    if "stepvalue" in needed and not ascends:
        message = "stepvalue that do not ascend, expected each above the one before"
        yield solver.breach("policy-fields", "stepvalue", message, True, subject="stepvalue")


def sound_momentum(solver: Solver) -> Iterator[Finding]:
    kind, values = solver_type(solver.values), solver.values
    for name in ("momentum", "momentum2"):
        value = getattr(values, name)
        if not 0 <= value < 1:
            message = f"{name} {value:g}, expected 0 to below 1"
            yield solver.breach("momentum", name, message, True, subject=name)
    if kind in WITHOUT_MOMENTUM and values.momentum:
        message = f"momentum {values.momentum:g} with type {kind!r}, expected 0: it has none"
        yield solver.breach("momentum", "momentum", message)
    if kind == "AdaDelta" and not values.momentum:
        message = "no momentum with type 'AdaDelta', which averages over iterations with it"
        yield solver.breach("momentum", "momentum", message, True)
    if kind == "RMSProp" and not 0 <= values.rms_decay < 1:
        message = f"rms_decay {values.rms_decay:g}, expected 0 to below 1"
        yield solver.breach("momentum", "rms_decay", message)


def some_training(solver: Solver) -> Iterator[Finding]:
    """Without a rate or iterations nothing is trained: an oversight, unless it is written so."""
    for name in ("base_lr", "max_iter"):
        if not getattr(solver.values, name) > 0:
            message = f"{_shown(solver, name)}, expected above 0; Caffe trains nothing"
            yield solver.breach(name.replace("_", "-"), name, message, solver.given(name))


def positive_counts(solver: Solver) -> Iterator[Finding]:
    """Numbers of iterations and passes over which Caffe averages."""
    for name in ("average_loss", "iter_size"):
        value = getattr(solver.values, name)
        if value < 1:
            message = f"{name} {value}, expected 1 or more"
            yield solver.breach("positive-counts", name, message, subject=name)


def known_regularization(solver: Solver) -> Iterator[Finding]:
    """Caffe looks at the kind of regularization only where there is some."""
    name, some = solver.values.regularization_type, solver.values.weight_decay
    if name not in REGULARIZATIONS:
        message = f"regularization_type {name!r}, expected {' or '.join(REGULARIZATIONS)}"
        yield solver.breach("regularization", "regularization_type", message, not some)


def named_snapshots(solver: Solver) -> Iterator[Finding]:
    if solver.values.snapshot and not solver.given("snapshot_prefix"):
        message = "snapshot without snapshot_prefix, which the first Caffe 1.0 refuses"
        yield solver.breach("snapshot-prefix", "snapshot", message, True)


def tests_in_time(solver: Solver, nets: int) -> Iterator[Finding]:
    """How often the nets that are tested, so many of them, are tested."""
    interval = solver.values.test_interval
    if nets and interval <= 0:
        message = f"{_shown(solver, 'test_interval')} with test_iter, expected 1 or more"
        yield solver.breach("test-interval", "test_interval", message)
    elif interval and not nets:
        message = "test_interval without test_iter, expected both or none; nothing is tested"
        yield solver.breach("test-interval", "test_interval", message, True)


def some_tests(solver: Solver) -> Iterator[Finding]:
    for count in dict.fromkeys(count for count in solver.values.test_iter if count < 1):
        message = f"test_iter {count}, expected 1 or more; Caffe tests nothing, and says nothing"
        yield solver.breach("test-iter", "test_iter", message, True)


def _shown(solver: Solver, name: str) -> str:
    return f"{name} {getattr(solver.values, name):g}" if solver.given(name) else f"no {name}"


RULES: tuple[Callable[[Solver], Iterator[Finding]], ...] = (
    known_type,
    some_training,
    known_policy,
    policy_fields,
    sound_momentum,
    known_regularization,
    positive_counts,
    some_tests,
    named_snapshots,
)
