"""Shapes of losses and of Accuracy: scalars, if predictions and labels fit.

Sources: Reshape in src/caffe/layers/loss_layer.cpp and in each loss's and Accuracy's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from caffesplit.formats.blobs import MAX_AXES
from caffesplit.net.graph import Layer
from caffesplit.net.partial import (
    LEGACY_AXES,
    Partial,
    Refused,
    Size,
    axis_of,
    count,
    differ,
    expect_axes,
    legacy_size,
    shown,
)


def _with_labels(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """SoftmaxWithLoss and InfogainLoss: a label for each prediction. The second top is prob."""
    _expect_batches(bottoms)
    is_softmax = layer.type == "SoftmaxWithLoss"
    axis = (
        layer.message.softmax_param.axis if is_softmax else layer.message.infogain_loss_param.axis
    )
    classes = _expect_labels(bottoms, axis)
    if len(bottoms) == 3 and classes is not None and differ(count(bottoms[2]), classes**2):
        message = f"an infogain matrix {shown(bottoms[2])}, expected {classes**2:,} values"
        raise Refused("labels", message)
    return ((), bottoms[0])[: len(layer.tops)]


def _accuracy(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """The second top is the accuracy of each class."""
    accuracy, (predictions, labels) = layer.message.accuracy_param, bottoms
    values, label_count = count(predictions), count(labels)
    most = values // label_count if values is not None and label_count else None
    if most is not None and accuracy.top_k > most:
        message = f"top_k {accuracy.top_k} of predictions {shown(predictions)} for"
        raise Refused("top-k", f"{message} labels {shown(labels)}, expected at most {most}")
    classes = _expect_labels(bottoms, accuracy.axis)
    return ((), (classes,))[: len(layer.tops)]


def _euclidean(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    _expect_batches(bottoms, LEGACY_AXES)
    return _scalar_if_equal(layer, bottoms, count(bottoms[0][1:]), count(bottoms[1][1:]))


def _cross_entropy(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    _expect_batches(bottoms)
    return _scalar_if_equal(layer, bottoms, count(bottoms[0]), count(bottoms[1]))


def _hinge(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    _expect_batches(bottoms, LEGACY_AXES)
    return _scalar(layer)


def _multinomial(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    _expect_batches(bottoms, LEGACY_AXES)
    _expect_ones(bottoms[1], 1, 2, 3)
    return _scalar(layer)


def _contrastive(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """Two batches of features, and whether they are similar."""
    one, other, similar = bottoms
    _expect_batches(bottoms)
    if differ(legacy_size(one, 1), legacy_size(other, 1)):
        message = f"bottoms {shown(one)} and {shown(other)}, expected as many channels"
        raise Refused("equal-shapes", message)
    _expect_ones(one, 2, 3)
    _expect_ones(other, 2, 3)
    _expect_ones(similar, 1, 2, 3)
    return _scalar(layer)


def _scalar(layer: Layer) -> tuple[Partial, ...]:
    return ((),)[: len(layer.tops)]


def _scalar_if_equal(
    layer: Layer, bottoms: Sequence[Partial], one: Size, other: Size
) -> tuple[Partial, ...]:
    if differ(one, other):
        message = f"bottoms {shown(bottoms[0])} and {shown(bottoms[1])}, expected as many values"
        raise Refused("equal-shapes", message)
    return _scalar(layer)


def _expect_batches(bottoms: Sequence[Partial], most_axes: int = MAX_AXES) -> None:
    """Two batches of as many items, the first one's of no more axes than its code can tell."""
    expect_axes(bottoms[0], 1, most_axes)
    expect_axes(bottoms[1], 1)
    if differ(bottoms[0][0], bottoms[1][0]):
        message = f"bottoms {shown(bottoms[0])} and {shown(bottoms[1])}"
        raise Refused("equal-shapes", f"{message}, expected equal first axes")


def _expect_labels(bottoms: Sequence[Partial], index: int) -> Size:
    """Hold labels against predictions; of how many classes they are."""
    predictions, labels = bottoms[:2]
    axis = axis_of(predictions, index)
    expected = count(predictions[:axis] + predictions[axis + 1 :])
    if differ(expected, count(labels)):
        message = f"labels {shown(labels)} for predictions {shown(predictions)} with classes"
        raise Refused("labels", f"{message} on axis {axis}, expected {expected:,} labels")
    return predictions[axis]


def _expect_ones(shape: Partial, *axes: int) -> None:
    if any(differ(legacy_size(shape, axis), 1) for axis in axes):
        numbers = ", ".join(map(str, axes))
        raise Refused("labels", f"a bottom {shown(shape)}, expected size 1 on axes {numbers}")


LOSSES: Mapping[str, Callable[[Layer, Sequence[Partial]], tuple[Partial, ...]]] = {
    "Accuracy": _accuracy,
    "ContrastiveLoss": _contrastive,
    "EuclideanLoss": _euclidean,
    "HingeLoss": _hinge,
    "InfogainLoss": _with_labels,
    "MultinomialLogisticLoss": _multinomial,
    "SigmoidCrossEntropyLoss": _cross_entropy,
    "SoftmaxWithLoss": _with_labels,
}
"""Their first top is a scalar whatever the bottoms are."""
