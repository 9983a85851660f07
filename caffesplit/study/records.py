"""The records that splits and folds leave beside what they write: split.json and fold.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffesplit.errors import CaffesplitError, Location
from caffesplit.report.page_values import FoldedBlock, FoldRecord
from caffesplit.split.plan import Plan
from caffesplit.split.plan_json import parse_plan

SPLIT = "split.json"
FOLD = "fold.json"

MAX_BYTES = 64 << 20
"""A split of ten thousand layers of a thousand kernels takes half of it."""


@dataclass(frozen=True)
class Split:
    """A split.json: the plan, how it was carried out, and the solver that it started from."""

    plan: Plan
    settings: Mapping[str, str]
    solver: str
    """Relative to the record's folder."""


def read_split(path: Path) -> Split:
    """The split that a split.json records.

    Raises:
        SplitError, CaffesplitError: if it is not one.
    """
    text = _text(path)
    plan = parse_plan(text, str(path))
    content = json.loads(text)
    try:
        setting, inputs = content.get("setting", {}), content["inputs"]
        settings = {str(name): _shown(value) for name, value in setting.items()}
        assigned = content.get("set", [])
        if assigned:
            settings["set"] = ", ".join(map(str, assigned))
        if content.get("momentum"):
            settings["momentum"] = "carried over"
        return Split(plan, settings, _path(inputs[0]))
    except (AttributeError, LookupError, TypeError):
        raise _no_record(path, "split") from None


def read_fold(path: Path) -> FoldRecord:
    """What a fold.json records.

    Raises:
        CaffesplitError: if it is not one.
    """
    try:
        content = json.loads(_text(path))
        blocks = tuple(
            FoldedBlock(
                str(block["name"]),
                str(block["type"]),
                tuple(map(str, block["layers"])),
                int(block["parameters_before"]),
                int(block["parameters"]),
                float(block["deviation"]),
            )
            for block in content["folded"]
        )
        left = tuple((str(each["name"]), str(each["reason"])) for each in content["left_alone"])
        inputs = [_path(each) for each in content["inputs"]]
        weights = [path for path in inputs if "caffemodel" in path]
        return FoldRecord(blocks, left, weights[0] if weights else "")
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
        raise _no_record(path, "fold") from None


def _path(entry: Any) -> str:
    """An input's path: it stands alone or, where its SHA-256 was taken, beside that."""
    return str(entry["path"] if isinstance(entry, dict) else entry)


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise _no_record(path, path.stem)
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _no_record(path: Path, verb: str) -> CaffesplitError:
    return CaffesplitError(
        f"no record of a {verb}", f"what `caffesplit {verb}` writes", at=Location(str(path))
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
