"""What distinguishes a net from another one: layers added, removed, changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from caffesplit.net.graph import Layer, Net

Value = tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    """Positions in the net of layers that the base has not, or has otherwise; and its own.

    Attributes:
        added: positions in the net.
        changed: position in the net → what is different, as in `num_output 32 → 16`.
        removed: positions in the base.
        kept: position in the base → position in the net, of layers that both have.
    """

    added: frozenset[int] = frozenset()
    changed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[int, ...] = ()
    kept: Mapping[int, int] = field(default_factory=dict)


def compare(net: Net, base: Net, present: Iterable[int], present_in_base: Iterable[int]) -> Change:
    """What was done to `base` to get `net`, each taken with the layers at these positions.

    Layers are the same where their names are; of several of one name, where their phases are.
    """
    new, old = _keyed(net, present), _keyed(base, present_in_base)
    kept = {index: new[key] for key, index in old.items() if key in new}
    changed = {}
    for before, after in kept.items():
        differences = tuple(_differences(base.layers[before], net.layers[after]))
        if differences:
            changed[after] = differences
    return Change(
        frozenset(index for key, index in new.items() if key not in old),
        changed,
        tuple(index for index in old.values() if index not in kept),
        kept,
    )


def _keyed(net: Net, present: Iterable[int]) -> dict[tuple[Any, ...], int]:
    """Layers by name; where several have it, by phases and by their order too."""
    present = list(present)
    times = Counter(net.layers[index].name for index in present)
    keyed: dict[tuple[Any, ...], int] = {}
    earlier: Counter[tuple[Any, ...]] = Counter()
    for index in present:
        layer = net.layers[index]
        key: tuple[Any, ...] = (layer.name,)
        if times[layer.name] > 1:
            key = (layer.name, layer.phases)
        earlier[key] += 1
        numbered = (*key, earlier[key])
        keyed[numbered] = index
    return keyed


def _differences(old: Layer, new: Layer) -> Iterator[str]:
    before, after = dict(_leaves(old.message)), dict(_leaves(new.message))
    for path in dict.fromkeys((*before, *after)):
        if before.get(path) != after.get(path):
            name = path.rpartition("_param.")[2].replace(".", " ")
            yield f"{name} {_shown(before.get(path))} → {_shown(after.get(path))}"


def _leaves(message: Any) -> Iterator[tuple[str, Value]]:
    """The values that are set, by their path; a repeated message's has its number, from 1."""
    for descriptor, value in message.ListFields():
        repeated = not isinstance(value, (str, bytes)) and hasattr(value, "__len__")
        values = tuple(value) if repeated else (value,)
        if descriptor.message_type is None:
            if descriptor.enum_type is not None:
                values = tuple(
                    descriptor.enum_type.values_by_number[number].name for number in values
                )
            yield descriptor.name, values
            continue
        for number, each in enumerate(values, 1):
            own = f"{descriptor.name} {number}" if repeated else descriptor.name
            for path, inner in _leaves(each):
                yield f"{own}.{path}", inner


def _shown(values: Value | None) -> str:
    if values is None:
        return "unset"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
