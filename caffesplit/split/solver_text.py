"""The derived experiment's solver: the base's own text, with a few fields set."""

from __future__ import annotations

from collections.abc import Sequence

from caffesplit.errors import Location, PrototxtError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.prototxt import Message, quote
from caffesplit.net.solver import NET_FIELDS, NetNode, with_nodes

OWN_FIELDS = (*NET_FIELDS, "snapshot_prefix")
"""Fields that the split sets itself."""


def derived_solver(
    tree: Message,
    nets: Sequence[tuple[NetNode, NetNode]],
    snapshot_prefix: str,
    assignments: Sequence[str] = (),
) -> Message:
    """The base's solver for other nets: these, `snapshot_prefix` and what is assigned.

    `nets` are pairs of what stands for a net in the text, and what shall stand there.
    `assignments` are `field=value`, any field of SolverParameter; several values of a repeated
    field are separated by commas. The base's own start (`weights`, in Caffe's HEAD) is left out.

    Raises:
        PrototxtError: for an unknown field, or a value of the wrong type.
    """
    tree = with_nodes(tree, nets).without("weights")
    tree = tree.with_field_set("snapshot_prefix", quote(snapshot_prefix))
    values: dict[str, list[str]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (equals and value):
            raise PrototxtError(
                f"--set {assignment}", "field=value", "Write it as in --set base_lr=0.01."
            )
        if name in OWN_FIELDS:
            raise PrototxtError(
                f"--set {assignment}",
                "a field that the split does not set itself",
                "It writes the nets and snapshot_prefix for the derived experiment.",
            )
        values.setdefault(name, []).append(value)
    if "type" in values:
        tree = tree.without("solver_type")  # Its old form, which Caffe refuses beside it.
    for name, given in values.items():
        tree = _assigned(tree, name, given)
    return tree


def _assigned(tree: Message, name: str, given: Sequence[str]) -> Message:
    descriptor = schema.message_class("SolverParameter").DESCRIPTOR.fields_by_name.get(name)
    is_string = descriptor is not None and descriptor.type == descriptor.TYPE_STRING
    is_repeated = descriptor is not None and not descriptor.has_presence
    values = ",".join(given).split(",") if is_repeated else given[-1:]
    raws = [quote(value.strip("\"'")) if is_string else value for value in values]
    place = f"--set {name}={values[-1]}"
    fields = prototxt.parse("\n".join(f"{name}: {raw}" for raw in raws), place)
    typed = schema.read(fields, "SolverParameter", place)
    if typed.unknown:
        unknown = typed.unknown[0]
        what = "solver field" if unknown.kind == "field" else "value"
        raise PrototxtError(
            f"no {what} {unknown.name!r}",
            f"a {what} of BVLC Caffe's {unknown.message_name}",
            f"Did you mean {unknown.suggestion}?" if unknown.suggestion else "",
            Location(place),
        )
    if is_repeated:
        return tree.without(name).appended(*fields.fields)
    return tree.with_field_set(name, raws[0])
