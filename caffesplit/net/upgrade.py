"""Prototxts of Caffe's older formats → today's: what Caffe makes of them as it loads them.

The definition that results is that of upgrade_net_proto_text and upgrade_solver_proto_text
(src/caffe/util/upgrade_proto.cpp), but the text stays the author's: comments, order, blank lines
and the fields of forks are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from caffesplit.errors import NetError
from caffesplit.formats import schema
from caffesplit.formats.prototxt import Message, Scalar, quote
from caffesplit.net.findings import Finding, counted
from caffesplit.net.upgrade_input import inputs_to_layer
from caffesplit.net.upgrade_layout import Style, style_of, unlisted
from caffesplit.net.upgrade_rules import SOLVER_TYPES, Upgrade, has_old_statistics, not_zero
from caffesplit.net.upgrade_v0 import layers_to_v1
from caffesplit.net.upgrade_v1 import data_to_transform, layers_to_v2

Stage = Callable[[Message, Any, str, Style], Upgrade[Message]]


def upgrade_net(tree: Message, path: str = "<text>") -> Upgrade[Message]:
    """Upgrade a net of any age. The tree of a net in today's format comes back itself.

    Raises:
        PrototxtError: for a value of the wrong type.
        NetError: for layers of several formats, and for what Caffe refuses to upgrade.
    """
    style = style_of(tree)
    made = Upgrade(tree)
    for stage in STAGES:
        net = schema.read(made.result, "NetParameter", path).message
        made = made.followed_by(stage(made.result, net, path, style))
    if not made.steps:
        return Upgrade(tree)
    schema.read(made.result, "NetParameter", path)  # Values may be out of their new fields' range.
    return made


def upgrade_solver(tree: Message, path: str = "<text>") -> Upgrade[Message]:
    """Upgrade a solver, and the nets inside it. What is in today's format comes back itself.

    A `snapshot_prefix` is not filled in, which Caffe does since 2017 as it reads a solver: it is
    made from the file's name, and this file is going to have another.

    Raises:
        PrototxtError: for a value of the wrong type.
        NetError: for a solver with `solver_type` beside `type`, and as in `upgrade_net`.
    """
    solver = schema.read(tree, "SolverParameter", path).message
    typed, steps = _with_type(tree, solver, path)
    findings: tuple[Finding, ...] = ()
    fields = []
    for field in unlisted(typed, NETS_INSIDE, style_of(tree)).fields:
        made = upgrade_net(field.as_message(), path) if field.name in NETS_INSIDE else None
        if made is not None and made.steps:
            field = replace(field, value=made.result)
            steps += tuple(f"{step} of {field.name}" for step in made.steps)
            findings += made.findings
        fields.append(field)
    return Upgrade(replace(typed, fields=tuple(fields)) if steps else tree, steps, findings)


NETS_INSIDE = ("net_param", "train_net_param", "test_net_param")


def _with_type(tree: Message, solver: Any, path: str) -> tuple[Message, tuple[str, ...]]:
    field = tree.get("solver_type")
    if field is None:
        return tree, ()
    if solver.HasField("type"):
        raise NetError(
            "`solver_type` beside `type`",
            "one of them",
            "Remove `solver_type`; Caffe refuses such a solver.",
            field.location(path),
        )
    if not solver.HasField("solver_type"):
        raise NetError(
            f"there is no solver_type {field.value}",
            "one of " + ", ".join(SOLVER_TYPES),
            'Solvers of a fork exist as `type: "…"` alone; write the type so.',
            field.location(path),
        )
    name = SOLVER_TYPES[solver.SolverType.Name(solver.solver_type)]
    new = replace(field.with_value(Scalar(quote(name))), name="type")
    return tree.replaced(field, new), ("solver_type",)


def _batch_norm(tree: Message, net: Any, path: str, style: Style) -> Upgrade[Message]:
    """Set the multipliers of BatchNorm's statistics to 0 where a net does so in the old way."""
    tree = unlisted(tree, ("layer",), style)
    layers = iter(net.layer)
    fields, count = [], 0
    for field in tree.fields:
        if field.name == "layer" and has_old_statistics(next(layers)):
            message = unlisted(field.as_message(), ("param",), style)
            field = replace(field, value=_frozen(message))
            count += 1
        fields.append(field)
    if not count:
        return Upgrade(tree)
    step = counted(count, "BatchNorm layer")
    return Upgrade(replace(tree, fields=tuple(fields)), (step,))


def _frozen(layer: Message) -> Message:
    fields = []
    for field in layer.fields:
        if field.name == "param":
            spec = field.as_message()
            for name in not_zero(schema.read(spec, "ParamSpec").message):
                spec = spec.with_field_set(name, "0")
            field = replace(field, value=spec)
        fields.append(field)
    return replace(layer, fields=tuple(fields))


STAGES: tuple[Stage, ...] = (
    layers_to_v1,
    data_to_transform,
    layers_to_v2,
    inputs_to_layer,
    _batch_norm,
)
"""In Caffe's order (UpgradeNetAsNeeded)."""
