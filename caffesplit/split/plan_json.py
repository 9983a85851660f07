"""plan.json: a plan as text that people read and edit, and back, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffesplit.errors import Location, SplitError
from caffesplit.split.plan import LayerPlan, Plan

PLAN_KEYS = ("window", "iterations", "seed", "layers")
LAYER_KEYS = ("name", "method", "partition", "fast", "slow", "tpm")
"""`partition` and `tpm` tell the reader how the kernels were parted, and may be left out."""


def as_json(plan: Plan) -> dict[str, Any]:
    """The content of plan.json: plain JSON values."""
    return {
        "window": list(plan.window),
        "iterations": list(plan.iterations),
        "seed": plan.seed,
        "layers": [
            {
                "name": layer.name,
                "method": layer.method,
                "partition": layer.partition,
                "fast": list(layer.fast),
                "slow": list(layer.slow),
                "tpm": list(layer.tpm),
            }
            for layer in plan.layers
        ],
    }


def parse_plan(text: str, path: str = "<text>") -> Plan:
    """The plan a plan.json (or the `plan` of a split.json) holds.

    Raises:
        SplitError: if the text is not JSON, or a value is missing or of the wrong kind.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        position = (
            (error.lineno, error.colno) if isinstance(error, json.JSONDecodeError) else (1, 1)
        )
        raise SplitError(
            "text that is not JSON", "a plan as `caffesplit plan` writes it", "",
            Location(path, *position),
        ) from None  # fmt: skip
    if isinstance(content, dict) and "plan" in content:
        content = content["plan"]
    reader = _Reader(path)
    plan = reader.object(content, "", PLAN_KEYS)
    try:
        return Plan(
            tuple(
                _parse_layer(reader, entry, f"layers[{position}]")
                for position, entry in enumerate(reader.member(plan, "", "layers", list))
            ),
            reader.window(plan),
            reader.integers(plan, "", "iterations"),
            reader.member(plan, "", "seed", int),
        )
    except SplitError as error:
        if error.at is None:
            error = SplitError(error.found, error.expected, error.remedy, Location(path))
        raise error from None


def _parse_layer(reader: _Reader, entry: Any, place: str) -> LayerPlan:
    layer = reader.object(entry, place, LAYER_KEYS)
    return LayerPlan(
        reader.member(layer, place, "name", str),
        reader.member(layer, place, "method", str),
        reader.member(layer, place, "partition", str) if "partition" in layer else "",
        reader.integers(layer, place, "fast"),
        reader.integers(layer, place, "slow"),
        tuple(
            None if value is None else reader.fraction(value, f"{place}.tpm")
            for value in (reader.member(layer, place, "tpm", list) if "tpm" in layer else ())
        ),
    )


@dataclass(frozen=True)
class _Reader:
    """Takes typed values out of decoded JSON, naming the place of what is wrong."""

    path: str

    def take(self, value: Any, place: str, kind: type | tuple[type, ...]) -> Any:
        if not isinstance(value, kind) or isinstance(value, bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            raise SplitError(
                f"{place or 'the plan'} is {json.dumps(value)[:60]}",
                " or ".join(_JSON_NAMES[each] for each in kinds),
                "Write the plan anew with `caffesplit plan`, or mend it by hand.",
                Location(self.path),
            )
        return value

    def object(self, value: Any, place: str, known: Sequence[str]) -> dict[str, Any]:
        content: dict[str, Any] = self.take(value, place, dict)
        unknown = next((key for key in content if key not in known), None)
        if unknown is not None:
            raise SplitError(
                f"{place or 'the plan'} has a key {json.dumps(unknown)[:60]}",
                f"one of {', '.join(known)}",
                "A key that nothing reads would change nothing: remove or correct it.",
                Location(self.path),
            )
        return content

    def member(self, mapping: dict[str, Any], place: str, key: str, kind: type) -> Any:
        full = f"{place}.{key}" if place else key
        if key not in mapping:
            raise SplitError(
                f"no {full!r}",
                _JSON_NAMES[kind],
                "Write the plan anew with `caffesplit plan`, or mend it by hand.",
                Location(self.path),
            )
        return self.take(mapping[key], full, kind)

    def integers(self, mapping: dict[str, Any], place: str, key: str) -> tuple[int, ...]:
        values = self.member(mapping, place, key, list)
        return tuple(self.take(value, f"{place}.{key}".lstrip("."), int) for value in values)

    def fraction(self, value: Any, place: str) -> float:
        number = self.take(value, place, (int, float))
        if not 0 <= number <= 1:
            raise SplitError(
                f"{place} is {str(number)[:60]}", "a TPM from 0 to 1", "", Location(self.path)
            )
        return float(number)

    def window(self, mapping: dict[str, Any]) -> tuple[int, int]:
        values = self.integers(mapping, "", "window")
        if len(values) != 2:
            raise SplitError(
                f"window with {len(values)} values", "two iterations", "", Location(self.path)
            )
        return values[0], values[1]


_JSON_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
}
