"""Solver settings side by side: what differs between experiments, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.report.page_values import Subject

OWN = frozenset(
    {"net", "train_net", "test_net", "net_param", "train_net_param", "test_net_param"}
    | {"snapshot_prefix", "weights"}
)
"""Fields that say which experiment it is; they differ between any two."""


@dataclass(frozen=True)
class Value:
    """A setting as text. `default`: Caffe's own, the solver does not name it."""

    text: str
    default: bool
    differs: bool
    """From the first experiment's."""


@dataclass(frozen=True)
class Settings:
    """The settings that any of the solvers names, sorted by whether all agree on them."""

    fields: tuple[str, ...]
    """Those on which they do not."""
    rows: tuple[tuple[Subject, tuple[Value, ...]], ...]
    """An experiment's values of `fields`."""
    shared: tuple[tuple[str, str], ...]
    """Field and value of the others."""


def settings(subjects: Sequence[Subject]) -> Settings:
    """Compare the solvers of those experiments that have one."""
    having = [subject for subject in subjects if subject.solver is not None]
    named = {
        field.name
        for subject in having
        for field, _ in subject.solver.ListFields()
        if field.name not in OWN
    }
    if not having:
        return Settings((), (), ())
    order = [field.name for field in having[0].solver.DESCRIPTOR.fields if field.name in named]
    texts = {
        subject.name: {field: _text(subject.solver, field) for field in order} for subject in having
    }
    first = texts[having[0].name]
    differing = tuple(
        field for field in order if any(each[field] != first[field] for each in texts.values())
    )
    rows = tuple(
        (
            subject,
            tuple(
                Value(
                    texts[subject.name][field],
                    not _named(subject.solver, field),
                    texts[subject.name][field] != first[field],
                )
                for field in differing
            ),
        )
        for subject in having
    )
    shared = tuple((field, first[field]) for field in order if field not in differing)
    return Settings(differing, rows, shared)


def _named(solver: Any, name: str) -> bool:
    return any(field.name == name for field, _ in solver.ListFields())


def _text(solver: Any, name: str) -> str:
    """A field's value, or its default, as one writes it in a prototxt."""
    field = solver.DESCRIPTOR.fields_by_name[name]
    value = getattr(solver, name)
    values = [value] if field.has_presence else list(value)
    return ", ".join(_one(field, each) for each in values) or "none"


def _one(field: Any, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if field.message_type is not None:
        return " ".join(str(value).split()) or "none"
    if field.cpp_type == field.CPPTYPE_FLOAT:
        return str(np.float32(value))  # The shortest text that gives this float.
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else "none"
