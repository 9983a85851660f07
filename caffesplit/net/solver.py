"""The nets that a solver trains and tests, and the state it uses each of them in.

Source: Solver::InitTrainNet and Solver::InitTestNets, src/caffe/solver.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from caffesplit.errors import Location, NetError
from caffesplit.formats import schema
from caffesplit.formats.prototxt import Field, ListValue, Message, Scalar
from caffesplit.net.graph import PHASES, Layer, Net

GENERIC_FIELDS = ("net", "net_param")
"""Fields whose net is trained, and tested as well."""
TRAIN_FIELDS = (*GENERIC_FIELDS, "train_net", "train_net_param")
TEST_FIELDS = ("test_net_param", "test_net")
"""In the order in which Caffe numbers the nets that it tests."""
NET_FIELDS = TRAIN_FIELDS + TEST_FIELDS

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
"""The solver types that BVLC Caffe registers, in the order of the old `solver_type`."""

NetNode: TypeAlias = Scalar | Message
"""A value in the solver's text that stands for a net: a path, or the net itself."""


@dataclass(frozen=True)
class State:
    """What a net is used for (NetState): its layers' `include` and `exclude` speak of that."""

    phase: str
    level: int = 0
    stages: tuple[str, ...] = ()

    def layers(self, net: Net) -> tuple[Layer, ...]:
        """The layers that the net has in this state."""
        return tuple(
            layer for layer in net.layers if layer.is_in(self.phase, self.level, self.stages)
        )


def net_nodes(solver: Message, path: str = "<text>") -> tuple[tuple[str, NetNode], ...]:
    """The values that stand for nets, each with its field's name.

    The net that is trained comes first, then those that are only tested, in Caffe's order.

    Raises:
        NetError: if there is not exactly one net to train, or its value is a list.
    """
    trained = [(name, node) for name in TRAIN_FIELDS for node in _values(solver, name)]
    if len(trained) != 1:
        named = " and ".join(f"`{name}`" for name, _ in trained)
        raise NetError(
            f"a solver with {named}" if trained else "a solver without a net to train",
            f"one of {', '.join(TRAIN_FIELDS)}",
            "Keep the one that is to be trained."
            if trained
            else 'Name the net, as in net: "train_val.prototxt".',
            trained[1][1].location(path) if trained else Location(path),
        )
    tested = [(name, node) for name in TEST_FIELDS for node in _values(solver, name)]
    return (*trained, *tested)


def solver_type(solver: Any) -> str:
    """The type of a SolverParameter, in today's words or as the enum of before 2016."""
    return TYPES[solver.solver_type] if solver.HasField("solver_type") else str(solver.type)


def phases(field: str) -> tuple[str, ...]:
    """The phases in which a solver may use the net of this field."""
    if field in GENERIC_FIELDS:
        return PHASES
    return ("TRAIN",) if field in TRAIN_FIELDS else ("TEST",)


def train_state(solver: Any, net: Net) -> State:
    """The state in which `net` is trained; `solver` is a SolverParameter."""
    return _merged("TRAIN", net, [solver.train_state])


def nets_tested(solver: Any, nets: Sequence[tuple[str, Net]]) -> Iterator[tuple[Net, State]]:
    """Every net that is tested, in the state in which it is.

    `nets` are all of the solver's, with their fields, in the order of `net_nodes`. One that is
    trained and tested is tested as often as there are `test_iter` left for it.
    """
    (field, trained), *others = nets
    tested = [net for _, net in others]
    if field in GENERIC_FIELDS:
        tested += [trained] * (len(solver.test_iter) - len(tested))
    for number, net in enumerate(tested):
        yield net, _merged("TEST", net, solver.test_state[number : number + 1])


def check_tests(solver: Any, fields: Sequence[str], path: str = "<text>") -> None:
    """Raise NetError unless the solver says of each tested net for how many batches.

    `fields` are those of its nets, in the order of `net_nodes`.
    """
    trained, *others = fields
    count, generic = len(solver.test_iter), trained in GENERIC_FIELDS
    if count < len(others) or (count > len(others) and not generic):
        raise NetError(
            f"{count} test_iter for {len(others)} nets to test",
            "one for each" + (f", and more where `{trained}` is tested too" if generic else ""),
            "Write test_iter once per test_net and test_net_param.",
            Location(path),
        )
    if len(solver.test_state) not in (0, count):
        raise NetError(
            f"{len(solver.test_state)} test_state for {count} test_iter",
            "one for each, or none",
            "",
            Location(path),
        )


def with_nodes(solver: Message, new: Sequence[tuple[NetNode, NetNode]]) -> Message:
    """The solver's text with some of its net nodes replaced, each by another; all else stays."""
    by_identity = {id(old): node for old, node in new}

    def replaced(value: Any) -> Any:
        if isinstance(value, ListValue) and not by_identity.keys().isdisjoint(map(id, value.items)):
            return replace(value, items=tuple(map(replaced, value.items)))
        return by_identity.get(id(value), value)

    def changed(field: Field) -> Field:
        value = replaced(field.value)
        return field if value is field.value else field.with_value(value)

    return replace(solver, fields=tuple(map(changed, solver.fields)))


def _values(solver: Message, name: str) -> Iterator[NetNode]:
    for field in solver.all(name):
        yield from field.value.items if isinstance(field.value, ListValue) else (field.value,)


def _merged(phase: str, net: Net, overrides: Sequence[Any]) -> State:
    """The phase, over it the net's own `state`, over that what the solver says."""
    state = schema.message_class("NetState")(phase=phase)
    own = net.tree.get("state")
    if own is not None:
        state.MergeFrom(schema.read(own.as_message(), "NetState").message)
    for override in overrides:
        state.MergeFrom(override)
    return State(PHASES[state.phase], state.level, tuple(state.stage))
