"""Plans in files: those that are named, and the record of the split that made a net."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffesplit.split.plan import Plan


def split_record(folder: Path) -> Path | None:
    """The record of the split that made the net in a folder, where there is one."""
    path = folder / "split.json"
    return path if path.is_file() else None


MAX_PLAN_BYTES = 64 << 20
"""A plan of ten thousand layers of a thousand kernels takes half of it."""


def read_plan(path: Path) -> Plan:
    """The plan in a plan.json or split.json.

    Raises:
        SplitError: if there is no such file, or it holds no plan.
    """
    from caffesplit.errors import Location, SplitError
    from caffesplit.split.plan_json import parse_plan

    if not path.is_file() or path.stat().st_size > MAX_PLAN_BYTES:
        raise SplitError(
            "no such file" if not path.exists() else "this is no plan",
            "a plan.json, or another split's split.json",
            "`caffesplit plan` writes one.",
            Location(str(path)),
        )
    return parse_plan(path.read_text(encoding="utf-8-sig", errors="replace"), str(path))
