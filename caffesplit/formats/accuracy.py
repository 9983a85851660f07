"""Which output of a test is its accuracy."""

from __future__ import annotations

from collections.abc import Iterable


def accuracy_output(names: Iterable[str]) -> str | None:
    """The output named `accuracy` in whatever case, else the first with "acc" in its name."""
    candidates = [name for name in names if "acc" in name.lower()]
    exact = (name for name in candidates if name.lower() == "accuracy")
    return next(exact, candidates[0] if candidates else None)
