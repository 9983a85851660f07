"""The derived experiment's solver: the base's own text, with a few fields set."""

from __future__ import annotations

from collections.abc import Sequence

from caffesplit.errors import Location, PrototxtError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.prototxt import Message, quote


def derived_solver(
    tree: Message, net: str, snapshot_prefix: str, assignments: Sequence[str] = ()
) -> Message:
    """The base's solver for another net: `net`, `snapshot_prefix` and what is assigned.

    `assignments` are `field=value`, any field of SolverParameter; several values of a repeated
    field are separated by commas. The base's own start (`weights`, in Caffe's HEAD) is left out.

    Raises:
        PrototxtError: for an unknown field, or a value of the wrong type.
    """
    tree = tree.without("weights")
    tree = tree.with_field_set("net", quote(net))
    tree = tree.with_field_set("snapshot_prefix", quote(snapshot_prefix))
    for assignment in assignments:
        tree = _assigned(tree, assignment)
    return tree


def _assigned(tree: Message, assignment: str) -> Message:
    name, equals, value = assignment.partition("=")
    if not (equals and value):
        raise PrototxtError(
            f"--set {assignment}", "field=value", "Write it as in --set base_lr=0.01."
        )
    descriptor = schema.message_class("SolverParameter").DESCRIPTOR.fields_by_name.get(name)
    is_string = descriptor is not None and descriptor.type == descriptor.TYPE_STRING
    is_repeated = descriptor is not None and not descriptor.has_presence
    values = value.split(",") if is_repeated else [value]
    raws = [quote(each) if is_string else each for each in values]
    text = "\n".join(f"{name}: {raw}" for raw in raws)
    fields = prototxt.parse(text, f"--set {assignment}")
    typed = schema.read(fields, "SolverParameter", f"--set {assignment}")
    if typed.unknown:
        close = typed.unknown[0].suggestion
        raise PrototxtError(
            f"no solver field {name!r}",
            "a field of SolverParameter",
            f"Did you mean {close}?" if close else "See `--set base_lr=0.01`.",
            Location(f"--set {assignment}"),
        )
    if is_repeated:
        return tree.without(name).appended(*fields.fields)
    return tree.with_field_set(name, raws[0])
