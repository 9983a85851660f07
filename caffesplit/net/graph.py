"""A net as Caffe reads it: layers with bottoms and tops, and the phases they take part in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from caffesplit.errors import Location, NetError
from caffesplit.formats import prototxt, schema
from caffesplit.formats.layers import V1_TYPES

PHASES = ("TRAIN", "TEST")

UPGRADE = (
    "Upgrade the experiment first: `caffesplit upgrade EXP -o OUT`; "
    "a net alone: `caffesplit upgrade NET -o OUT`."
)
"""The remedy for nets of V0 and V1."""


@dataclass(frozen=True)
class Layer:
    """One layer: Caffe's view of it (`message`, with defaults) and its text (`field`)."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    """LayerParameter, or V1LayerParameter in a `legacy` net."""
    field: prototxt.Field

    @property
    def location(self) -> Location:
        return self.field.location()

    @property
    def group(self) -> int:
        """The number of groups of a convolution.

        Raises:
            NetError: if it is 0.
        """
        group = int(self.message.convolution_param.group)
        if group == 0:
            raise NetError(f"layer {self.name!r} with group 0", "1 or more", "", self.location)
        return group

    @property
    def shared_params(self) -> tuple[str, ...]:
        """Names under which this layer shares parameters with others (`param { name }`)."""
        if isinstance(self.message, schema.message_class("LayerParameter")):
            return tuple(spec.name for spec in self.message.param if spec.name)
        return tuple(name for name in self.message.param if name)

    def is_in(self, phase: str, level: int = 0, stages: Iterable[str] = ()) -> bool:
        """Whether a net in this state has the layer (Net::FilterNet, caffe/src/caffe/net.cpp)."""
        rules, present = self.message.exclude, True
        if self.message.include:
            rules, present = self.message.include, False
        matched = any(_matches(rule, phase, level, set(stages)) for rule in rules)
        return not present if matched else present

    @property
    def phases(self) -> tuple[str, ...]:
        return tuple(phase for phase in PHASES if self.is_in(phase))


@dataclass(frozen=True)
class Net:
    """A net's layers in file order, over the syntax tree they were read from."""

    tree: prototxt.Message
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...] = ()
    """Blobs that the net takes from outside (`input`, in deploy nets before 2016)."""
    unknown: tuple[schema.Unknown, ...] = ()
    """Fields and enum values that BVLC Caffe does not have; a fork's, or misspelled."""
    further_unknown: int = 0
    """How many more of those there are than `unknown` lists."""
    legacy: bool = False
    """Whether layers are written `layers { … }`, as before 2015 (V1)."""

    def named(self, name: str) -> tuple[Layer, ...]:
        """The layers of this name: several where each phase has its own."""
        return tuple(layer for layer in self.layers if layer.name == name)

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset(self.inputs).union(*(layer.tops for layer in self.layers))


def build(tree: prototxt.Message, path: str = "<text>") -> Net:
    """The net a prototxt describes.

    Raises:
        PrototxtError: for a value of the wrong type.
        NetError: for V0 layers, a mixture of `layer` and `layers`, or no layer at all.
    """
    fields, legacy_fields = tree.all("layer"), tree.all("layers")
    if legacy_fields and fields:
        raise NetError(
            "`layers` beside `layer`", "one of them", "Write all layers as `layer`.",
            legacy_fields[0].location(),
        )  # fmt: skip
    if not fields and not legacy_fields:
        raise NetError(
            "no layer",
            "a net with `layer { … }`",
            "Is this the net? A solver names it in its `net` field.",
            Location(path),
        )
    for field in fields or legacy_fields:
        if not isinstance(field.value, prototxt.Message):
            raise NetError(
                f"`{field.name}` as a list",
                f"one `{field.name} {{ … }}` per layer",
                "Write each layer as a field of its own.",
                field.location(path),
            )
    typed = schema.read(tree, "NetParameter", path)
    if legacy_fields:
        layers = tuple(map(_legacy_layer, typed.message.layers, legacy_fields))
    else:
        layers = tuple(map(_layer, typed.message.layer, fields))
    return Net(
        tree,
        layers,
        tuple(typed.message.input),
        typed.unknown,
        typed.further_unknown,
        legacy=bool(legacy_fields),
    )


def _layer(message: Any, field: prototxt.Field) -> Layer:
    return Layer(
        message.name, message.type, tuple(message.bottom), tuple(message.top), message, field
    )


def _legacy_layer(message: Any, field: prototxt.Field) -> Layer:
    if message.HasField("layer"):
        raise NetError(
            "a layer in the V0 format of 2013",
            "`layer { name: … type: … }`",
            UPGRADE,
            field.location(),
        )
    type_name = V1_TYPES.get(message.type, "")
    return Layer(message.name, type_name, tuple(message.bottom), tuple(message.top), message, field)


def _matches(rule: Any, phase: str, level: int, stages: set[str]) -> bool:
    """Net::StateMeetsRule (caffe/src/caffe/net.cpp)."""
    if rule.HasField("phase") and PHASES[rule.phase] != phase:
        return False
    if rule.HasField("min_level") and level < rule.min_level:
        return False
    if rule.HasField("max_level") and level > rule.max_level:
        return False
    return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)
