"""Caffe's messages: the values of a prototxt with Caffe's types and defaults.

The messages come from proto/caffe.proto by way of caffe.desc, and live in a descriptor pool of
their own: pycaffe, or any other caffe_pb2, may be imported in the same process, before or after.

What protobuf's own parser refuses is an error here, with two exceptions for the sake of forks:
fields and enum values that BVLC Caffe does not know are left out of the message and reported.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message as ProtoMessage

from caffesplit.errors import Location, PrototxtError
from caffesplit.formats._lexer import FLOAT, INTEGER, NOT_FINITE, quoted
from caffesplit.formats.prototxt import Field, ListValue, Message, Node, Scalar, Value

_PACKAGE = "caffe."
_LAYER_TYPES = """
AbsVal Accuracy ArgMax BatchNorm BatchReindex Bias BNLL Clip Concat ContrastiveLoss Convolution Crop
Data Deconvolution Dropout DummyData Eltwise ELU Embed EuclideanLoss Exp Filter Flatten HDF5Data
HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input Log LRN LSTM LSTMUnit
MemoryData MultinomialLogisticLoss MVN Parameter Pooling Power PReLU Python Reduction ReLU Reshape
RNN Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss SPP Split Swish TanH
Threshold Tile WindowData
"""

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.CPPTYPE_UINT32: range(2**32),
    FieldDescriptor.CPPTYPE_INT64: range(-(2**63), 2**63),
}
_EXPECTATIONS = {
    FieldDescriptor.CPPTYPE_INT32: ("an integer of 32 bits", ": 1"),
    FieldDescriptor.CPPTYPE_UINT32: ("a non-negative integer of 32 bits", ": 1"),
    FieldDescriptor.CPPTYPE_INT64: ("an integer of 64 bits", ": 1"),
    FieldDescriptor.CPPTYPE_FLOAT: ("a number", ": 0.1"),
    FieldDescriptor.CPPTYPE_DOUBLE: ("a number", ": 0.1"),
    FieldDescriptor.CPPTYPE_BOOL: ("true or false", ": true"),
    FieldDescriptor.CPPTYPE_STRING: ("a string in UTF-8", ': "..."'),
    FieldDescriptor.CPPTYPE_MESSAGE: ("a message", " { ... }"),
}
"""For each type, in words and as an example of what follows the field's name."""
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_BITS: dict[int | None, bool] = {0: False, 1: True}
_LONGEST_INTEGER = 32
"""Digits that are looked at; 64 bits need 23 at most. Python is slow at millions of them."""


MAX_UNKNOWN = 1000
"""Unknown fields and values that are listed; a fork's nets have a few hundred."""


@dataclass(frozen=True)
class Unknown:
    """A field, or an enum's value, that BVLC Caffe does not know.

    Attributes:
        kind: which of the two.
        name: as written.
        message_name: the message without such a field, as in "ConvolutionParameter", or the enum
            without such a value, as in "PoolingParameter.PoolMethod".
        known: the names it has.
    """

    kind: Literal["field", "value"]
    name: str
    message_name: str
    location: Location
    known: tuple[str, ...] = field(repr=False)

    @property
    def suggestion(self) -> str | None:
        """The known name that looks most like this one, if any does."""
        return next(iter(difflib.get_close_matches(self.name, self.known, n=1)), None)


@dataclass(frozen=True)
class Typed:
    """A message with Caffe's types and defaults, and what had no place in it.

    Attributes:
        unknown: in the text's order, the first MAX_UNKNOWN.
        further_unknown: how many more there are.
    """

    message: ProtoMessage
    unknown: tuple[Unknown, ...]
    further_unknown: int = 0


def message_class(name: str) -> type[ProtoMessage]:
    """The class of one of Caffe's messages: "NetParameter", "SolverParameter", "BlobProto" …

    Raises:
        KeyError: if Caffe has no such message.
    """
    return _message_classes()[_PACKAGE + name]


def read(node: Message, name: str, path: str = "<text>") -> Typed:
    """Read a message of Caffe's type `name` from a syntax tree.

    `path` stands in error messages for nodes that an edit made.

    Raises:
        PrototxtError: if a value is not of its field's type or out of range, if a field that is
            not repeated stands there twice, or if a required one is missing.
    """
    reader = _Reader(path)
    message = message_class(name)()
    reader.fill(message, node)
    return Typed(message, tuple(reader.unknown), reader.further_unknown)


def refuse_unknown(unknown: Sequence[Unknown]) -> None:
    """Raise PrototxtError for the first field or value that BVLC Caffe does not know, as it does.

    A field of a fork, or misspelled, means something; without it the net is another one.
    """
    if not unknown:
        return
    first = unknown[0]
    close = f"Did you mean {first.suggestion}? " if first.suggestion else ""
    more = f" `caffesplit check` shows {len(unknown)} such." if len(unknown) > 1 else ""
    raise PrototxtError(
        f"{first.message_name} has no {first.name!r} in BVLC Caffe, which ends on it",
        "what it has",
        f"{close}Correct it, or take it out. A fork's own needs that fork: --engine caffe.{more}",
        first.location,
    )


def layer_types() -> frozenset[str]:
    """The layer types that BVLC Caffe 1.0 registers, and its HEAD (Clip, Swish).

    Source: the REGISTER_LAYER_CLASS and REGISTER_LAYER_CREATOR lines of src/caffe.
    """
    return frozenset(_LAYER_TYPES.split())


@cache
def _message_classes() -> dict[str, type[ProtoMessage]]:
    """By full name, all of them at once: protobuf before 4.25 crashes over classes not kept."""
    serialized = Path(__file__).with_name("caffe.desc").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    pool = DescriptorPool()
    for file in files:
        pool.AddSerializedFile(file.SerializeToString())
    classes: dict[str, type[ProtoMessage]] = message_factory.GetMessageClassesForFiles(
        [file.name for file in files], pool
    )
    return classes


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.unknown: list[Unknown] = []
        self.further_unknown = 0

    def fill(self, message: ProtoMessage, node: Message) -> None:
        known = message.DESCRIPTOR.fields_by_name
        first: dict[str, Field] = {}
        for entry in node.fields:
            target = known.get(entry.name)
            if target is None:
                self.skip("field", entry.name, entry, message.DESCRIPTOR, known)
                continue
            if first.setdefault(entry.name, entry) is not entry and not _is_repeated(target):
                self.fail_twice(first[entry.name], entry)
            for value in self.values(target, entry.value):
                if target.message_type:
                    self.put_message(message, target, value)
                else:
                    self.put_scalar(message, target, value)
        if not message.IsInitialized():
            self.fail_incomplete(message, node)

    def values(self, target: FieldDescriptor, value: Value) -> tuple[Scalar | Message, ...]:
        if not isinstance(value, ListValue):
            return (value,)
        if not _is_repeated(target):
            self.fail("a list", target, value)
        return value.items

    def put_message(
        self, message: ProtoMessage, target: FieldDescriptor, value: Scalar | Message
    ) -> None:
        if not isinstance(value, Message):
            self.fail(_found(value), target, value)
        part = getattr(message, target.name)
        if _is_repeated(target):
            part = part.add()
        part.SetInParent()
        self.fill(part, value)

    def put_scalar(
        self, message: ProtoMessage, target: FieldDescriptor, value: Scalar | Message
    ) -> None:
        if not isinstance(value, Scalar):
            self.fail("a message", target, value)
        typed = _typed(target, value)
        if typed is None:
            literal, enum = value.literal, target.enum_type
            if not enum or not (
                literal.isidentifier() or INTEGER.fullmatch(literal.removeprefix("-"))
            ):
                self.fail(_found(value), target, value)
            self.skip("value", literal, value, enum, enum.values_by_name)
        elif _is_repeated(target):
            getattr(message, target.name).append(typed)
        else:
            setattr(message, target.name, typed)

    def skip(
        self,
        kind: Literal["field", "value"],
        name: str,
        node: Node,
        owner: Descriptor | EnumDescriptor,
        known: Iterable[str],
    ) -> None:
        if len(self.unknown) == MAX_UNKNOWN:
            self.further_unknown += 1
            return
        location = node.location(self.path)
        self.unknown.append(Unknown(kind, name, _short(owner), location, tuple(known)))

    def fail(self, found: str, target: FieldDescriptor, node: Node) -> NoReturn:
        expected, example = _expectation(target)
        owner = _short(target.containing_type)
        raise PrototxtError(
            f"found {found}",
            expected,
            f"Write it as in `{target.name}{example}` ({owner}.{target.name}, proto/caffe.proto).",
            node.location(self.path),
        )

    def fail_twice(self, first: Field, second: Field) -> NoReturn:
        at = first.location(self.path)
        raise PrototxtError(
            f'found a second "{second.name}" in one message, the first is at {at}',
            "one",
            "Remove one of the two; this field is not repeated, and Caffe refuses it.",
            second.location(self.path),
        )

    def fail_incomplete(self, message: ProtoMessage, node: Message) -> NoReturn:
        missing = message.FindInitializationErrors()
        raise PrototxtError(
            f"found a {_short(message.DESCRIPTOR)} without {', '.join(missing)}",
            "them all",
            "Add what is missing; Caffe has no default for it.",
            node.location(self.path),
        )


def _typed(target: FieldDescriptor, scalar: Scalar) -> Any | None:
    """The value of a scalar as its field's type has it, or None if it is not of that type."""
    kind, literal = target.cpp_type, scalar.literal
    if target.type == FieldDescriptor.TYPE_BYTES:
        return scalar.as_bytes() if scalar.is_string else None
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _text(scalar) if scalar.is_string else None
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return _number(literal)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _BOOLS.get(literal, _BITS.get(_natural(literal)))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enumerator(target.enum_type, literal)
    integer = _integer(literal)
    return integer if integer is not None and integer in _RANGES[kind] else None


def _enumerator(enum: EnumDescriptor, literal: str) -> int | None:
    if literal in enum.values_by_name:
        number: int = enum.values_by_name[literal].number
        return number
    integer = _integer(literal)
    return integer if integer in enum.values_by_number else None


def _text(string: Scalar) -> str | None:
    try:
        return string.as_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None


def _integer(literal: str) -> int | None:
    natural = _natural(literal.removeprefix("-"))
    return -natural if natural is not None and literal.startswith("-") else natural


def _natural(digits: str) -> int | None:
    if not INTEGER.fullmatch(digits) or len(digits) > _LONGEST_INTEGER:
        return None
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    return int(digits, base)


def _number(literal: str) -> float | None:
    magnitude = literal.removeprefix("-")
    if magnitude.lower() in NOT_FINITE:
        return float(literal)
    return float(literal.rstrip("fF")) if FLOAT.fullmatch(magnitude) else None


def _is_repeated(target: FieldDescriptor) -> bool:
    # FieldDescriptor.label says it too, but is on its way out of protobuf. In proto2, all fields
    # but the repeated ones tell whether they were set.
    return not target.has_presence


def _short(owner: Descriptor | EnumDescriptor) -> str:
    name: str = owner.full_name
    return name.removeprefix(_PACKAGE)


def _found(value: Scalar) -> str:
    return f"{'string ' if value.is_string else ''}{quoted(value.raw)}"


def _expectation(target: FieldDescriptor) -> tuple[str, str]:
    if not target.enum_type:
        return _EXPECTATIONS[target.cpp_type]
    names = list(target.enum_type.values_by_name)
    return f"one of {', '.join(names)}", f": {names[0]}"
