"""What the layers of a block must have in common to be one layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from caffesplit.net.graph import Layer
from caffesplit.split.fold_steps import JOINS, Step
from caffesplit.split.linear import UnfoldableError


def refuse_other_axes(steps: Sequence[Step | None]) -> None:
    """Raise UnfoldableError unless all maps act on the same axes."""
    known = [each for each in steps if each is not None]
    if len({each.axes for each in known} - {None}) > 1:
        raise UnfoldableError("Convolution and InnerProduct do not become one layer")
    axes = sorted({each.channel_axis for each in known if each.channel_axis is not None})
    if len(axes) > 1:
        raise UnfoldableError(f"its layers work on axes {' and '.join(map(str, axes))}")


def refuse_other_rules(layers: Iterable[Layer]) -> None:
    """Raise UnfoldableError unless all layers say the same of the states in which they are."""
    if len({_rules(layer) for layer in layers}) > 1:
        raise UnfoldableError("its layers have different include or exclude rules")


def refuse_other_gradients(layers: Iterable[Layer], source: Collection[str]) -> None:
    """Raise UnfoldableError unless all that read the block's source pass the same back to it."""
    readers = (layer for layer in layers if layer.type not in JOINS)
    passed = {
        tuple(layer.message.propagate_down)
        for layer in readers
        if not set(source).isdisjoint(layer.bottoms)
    }
    if len(passed) > 1:
        raise UnfoldableError("propagate_down differs between its branches")


def _rules(layer: Layer) -> tuple[bytes, ...]:
    message = layer.message
    return tuple(
        kind + rule.SerializeToString(deterministic=True)
        for kind, rules in ((b"+", message.include), (b"-", message.exclude))
        for rule in rules
    )
