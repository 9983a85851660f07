"""Caffe's own upgrade tools, and random nets of old formats for them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from caffesplit.formats.schema import message_class
from caffesplit.net.upgrade_rules import PADDING, V0_TYPES

Net, Solver = message_class("NetParameter"), message_class("SolverParameter")
V1Layer = message_class("V1LayerParameter")
FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def upgraded_text(caffe: Path, path: Path, message: type[Message] = Net) -> Message:
    """What Caffe makes of a net, or solver, in text format."""
    tool = "upgrade_net_proto_text" if message is Net else "upgrade_solver_proto_text"
    return text_format.Parse(_run(caffe, tool, path).decode(), message())


def upgraded_binary(caffe: Path, path: Path) -> Message:
    """What Caffe makes of a weight file."""
    return Net.FromString(_run(caffe, "upgrade_net_proto_binary", path))


def _run(caffe: Path, tool: str, path: Path) -> bytes:
    out = path.with_name("by-caffe")
    out.unlink(missing_ok=True)
    done = subprocess.run([caffe.with_name(tool), path, out], capture_output=True, text=True)
    assert out.exists(), done.stderr
    return out.read_bytes()


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, without: tuple[str, ...] = ()) -> Any:
    """A message with a few of its fields set."""
    message = message_class(descriptor.full_name.removeprefix("caffe."))()
    fields = [field for field in descriptor.fields if field.name not in without]
    for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique_by=id)):
        if field.has_presence and not field.message_type:
            setattr(message, field.name, draw(scalars(field)))
        elif field.has_presence:
            getattr(message, field.name).CopyFrom(draw(messages(field.message_type)))
            getattr(message, field.name).SetInParent()
        else:
            values = messages(field.message_type) if field.message_type else scalars(field)
            getattr(message, field.name).extend(draw(st.lists(values, max_size=3)))
    return message


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type in FLOATS:
        return st.floats(width=32, allow_nan=False).map(lambda value: value + 0.0)  # no -0
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.text("ab #{}\"'\\é\n", max_size=4)
    return st.integers(0, 2**31 - 1)


@st.composite
def v1_nets(draw: st.DrawFn) -> Any:
    net = draw(nets_without_layers())
    net.layers.extend(draw(st.lists(messages(V1Layer.DESCRIPTOR, ("layer",)), max_size=12)))
    return net


@st.composite
def v0_nets(draw: st.DrawFn) -> Any:
    """A V0 net as Caffe takes it: bottoms are there, padding is read by conv and pool alone."""
    net = Net(name="V0")
    if draw(st.booleans()):
        net.input.append("data")
        net.input_dim.extend([1, 2, 3, 4])
    for number in range(draw(st.integers(1, 12))):
        before = {top: layer.layer.type for layer in net.layers for top in layer.top}
        before.update(dict.fromkeys(net.input, ""))
        ordinary = [top for top, writer in before.items() if writer != PADDING]
        layer = net.layers.add(top=[f"top{number}"])
        inside = messages(V1Layer().layer.DESCRIPTOR, ("type", "new_num", "new_channels"))
        layer.layer.CopyFrom(draw(inside))
        layer.layer.type = draw(st.sampled_from([*V0_TYPES, *([PADDING] if ordinary else [])]))
        if layer.layer.type == PADDING:
            layer.bottom.append(draw(st.sampled_from(ordinary)))
        elif layer.layer.type in ("conv", "pool") and before:
            layer.bottom.append(draw(st.sampled_from(list(before))))
        elif ordinary:
            layer.bottom.extend(draw(st.lists(st.sampled_from(ordinary), max_size=2)))
    return net


@st.composite
def nets_without_layers(draw: st.DrawFn) -> Any:
    layers = ("layer", "layers")
    inputs = ("input", "input_dim", "input_shape")
    net = draw(messages(Net.DESCRIPTOR, layers + inputs))
    net.input.extend(draw(st.lists(st.sampled_from("abc"), max_size=2)))
    kind = draw(st.sampled_from(["dim", "shape", "none", "both"]))
    if kind in ("dim", "both"):
        net.input_dim.extend(range(4 * len(net.input)))
    if kind in ("shape", "both"):
        net.input_shape.extend(
            message_class("BlobShape")(dim=[index, 7]) for index in range(len(net.input))
        )
    return net
