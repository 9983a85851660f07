"""Shapes of which some sizes are not known, and what a rule of shapes needs to work on them.

Sources: CanonicalAxisIndex, count, LegacyShape and Reshape in include/caffe/blob.hpp and
src/caffe/blob.cpp (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from caffesplit.formats.blobs import MAX_AXES, MAX_COUNT

Size = int | None
"""How many entries an axis has; None where that is not known."""

Partial = tuple[Size, ...]
"""A blob's shape, as far as it is known: (64, 3, None, None)."""

LEGACY_AXES = 4
"""num, channels, height, width."""


class Refused(Exception):  # noqa: N818 - what Caffe does, and no error of ours
    """Shapes that Caffe does not take.

    Attributes:
        rule: the name of the rule they break.
        message: what was found, and what is expected.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule, self.message = rule, message


def is_complete(shape: Partial | None) -> bool:
    return shape is not None and None not in shape


def count(shape: Sequence[Size]) -> Size:
    """The number of values, if all sizes are known."""
    sizes = [size for size in shape if size is not None]
    return prod(sizes) if len(sizes) == len(shape) else None


def differ(one: Size, other: Size) -> bool:
    """Whether two sizes are known to differ."""
    return one is not None and other is not None and one != other


def agree(one: Partial, other: Partial) -> bool:
    """Whether two shapes may be the same."""
    return len(one) == len(other) and not any(map(differ, one, other))


def merged(one: Partial, other: Partial) -> Partial:
    """What two descriptions of the same shape tell together."""
    return tuple(b if a is None else a for a, b in zip(one, other, strict=True))


def axis_of(shape: Partial, index: int) -> int:
    """The axis that an index stands for; −1 is the last one."""
    if not -len(shape) <= index < len(shape):
        expected = f"{-len(shape)} to {len(shape) - 1}" if shape else "a blob with axes"
        raise Refused(
            "existing-axes", f"axis {index} of a blob {shown(shape)}, expected {expected}"
        )
    return index % len(shape)


def legacy_size(shape: Partial, axis: int) -> Size:
    """The size that a layer of the days of four axes sees: 1 for axes that are not there."""
    if len(shape) > LEGACY_AXES:
        raise Refused("number-of-axes", f"a bottom {shown(shape)}, expected at most 4 axes")
    return shape[axis] if axis < len(shape) else 1


def expect_axes(shape: Partial, least: int, most: int = MAX_AXES) -> None:
    if not least <= len(shape) <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        raise Refused("number-of-axes", f"a bottom {shown(shape)}, expected {expected} axes")


def expect_blob(shape: Partial) -> None:
    """Hold a top's shape against what a blob can be (Blob::Reshape)."""
    if len(shape) > MAX_AXES:
        raise Refused("blob-size", f"a top of {len(shape)} axes, expected at most {MAX_AXES}")
    values = 1
    for size in shape:
        if size is not None and (size < 0 or values * size > MAX_COUNT):
            expected = f"no size below 0 and at most {MAX_COUNT:,} values"
            raise Refused("blob-size", f"a top {shown(shape)}, expected {expected}")
        values *= 1 if size is None else size


def shown(shape: Partial) -> str:
    """As a shape is written, with ? for what is not known: (64, 3, ?, ?)."""
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"
