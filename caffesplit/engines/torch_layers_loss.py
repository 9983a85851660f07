"""Losses, and Accuracy.

Labels are whole numbers in float blobs; like them, what else the data tells has no gradient.
Sources: src/caffe/layers of each type (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import (
    Build,
    Forward,
    Setup,
    Tensors,
    axis_of,
    with_gradient_of,
)
from caffesplit.engines.torch_layers_shape import expect_below
from caffesplit.formats.blobs import read_blob

LOG_FLOAT_MINIMUM = log(torch.finfo(torch.float32).tiny)
"""SoftmaxWithLoss takes smaller probabilities for the smallest normal float."""

LABELS = "Correct the labels, or the num_output of the layer that predicts them."

NO_LABEL = torch.iinfo(torch.int64).min
"""What torch is to ignore, in place of its own −100."""

LEAST_PROBABILITY = 1e-20
"""kLOG_THRESHOLD of the other logarithmic losses."""


def _normalisation(setup: Setup, default: int | None = None) -> int:
    """The mode of LossParameter; `normalize` is its older form."""
    parameter = setup.message.loss_param
    if not parameter.HasField("normalization"):
        if parameter.HasField("normalize"):
            return int(parameter.VALID if parameter.normalize else parameter.BATCH_SIZE)
        if default is not None:
            return default
    return int(parameter.normalization)


def _divisor(
    setup: Setup, mode: int, outer: int, values: int, ignored: Tensor | None
) -> float | Tensor:
    """By what a summed loss is divided, at least 1.

    Args:
        outer: items, for BATCH_SIZE.
        values: losses that are summed, for FULL; for VALID without those that are ignored.
        ignored: where.
    """
    parameter = setup.message.loss_param
    if mode == parameter.VALID and ignored is not None:
        return (values - ignored.sum()).clamp(min=1)
    counts = {parameter.FULL: values, parameter.VALID: values, parameter.BATCH_SIZE: outer}
    return max(1, counts.get(mode, 1))


def _ignored(setup: Setup, parameter: Any) -> Callable[[Tensor], Tensor | None]:
    """Where labels are `ignore_label`; None if there is no such label."""
    if not parameter.HasField("ignore_label"):
        return lambda labels: None
    ignored = parameter.ignore_label
    return lambda labels: labels == ignored


def _classified(
    setup: Setup, axis: int, parameter: Any
) -> Callable[[Tensors], tuple[Tensor, Tensor, Tensor | None]]:
    """Predictions (outer, classes, inner), labels (outer, inner) and where they are ignored.

    An ignored label comes as 0.
    """
    find = _ignored(setup, parameter)

    def classified(bottoms: Tensors) -> tuple[Tensor, Tensor, Tensor | None]:
        shape = bottoms[0].shape
        x = bottoms[0].reshape(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))
        labels = bottoms[1].detach().reshape(x.shape[0], x.shape[2]).long()
        ignored = find(labels)
        if ignored is not None:
            labels = labels.masked_fill(ignored, 0)
        expect_below(setup, "label", labels, x.shape[1], LABELS)
        return x, labels, ignored

    return classified


def _softmax_with_loss(setup: Setup) -> Forward:
    """The mean of −log p(label); what a tiny p hides from the loss, its gradient still shows."""
    axis = axis_of(setup.bottoms[0], setup.message.softmax_param.axis)
    classified = _classified(setup, axis, setup.message.loss_param)
    mode = _normalisation(setup)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, labels, ignored = classified(bottoms)
        losses = functional.cross_entropy(x, labels, reduction="none", ignore_index=NO_LABEL)
        losses = with_gradient_of(losses, losses.clamp(max=-LOG_FLOAT_MINIMUM))
        if ignored is not None:
            losses = losses.masked_fill(ignored, 0)
        return (losses.sum() / _divisor(setup, mode, x.shape[0], losses.numel(), ignored),)

    return forward


def _infogain(setup: Setup) -> Forward:
    """−Σ H[label, class] · log p(class), with H from a file or from the third bottom."""
    axis = axis_of(setup.bottoms[0], setup.message.infogain_loss_param.axis)
    classified = _classified(setup, axis, setup.message.loss_param)
    if setup.message.loss_param.HasField("normalize"):
        raise setup.refuse("`normalize` in its loss_param", "`normalization` in its place")
    mode, count = _normalisation(setup), setup.bottoms[0][axis]
    fixed = None if len(setup.bottoms) > 2 else _infogain_matrix(setup, count)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, labels, ignored = classified(bottoms)
        matrix = bottoms[2].detach() if fixed is None else fixed.to(x)
        gains = matrix.reshape(count, count)[labels].movedim(-1, 1)
        logs = torch.log_softmax(x, 1)
        floored = with_gradient_of(logs, logs.clamp(min=log(LEAST_PROBABILITY)))
        losses = -(gains * floored).sum(1)
        if ignored is not None:
            losses = losses.masked_fill(ignored, 0)
        loss = losses.sum() / _divisor(setup, mode, x.shape[0], losses.numel(), ignored)
        return (loss, logs.detach().exp().reshape(bottoms[0].shape))

    return forward


def _infogain_matrix(setup: Setup, classes: int) -> Tensor:
    source = setup.message.infogain_loss_param.source
    if not source:
        raise setup.refuse("no infogain matrix", "`source`, or a third bottom")
    values = torch.from_numpy(read_blob(setup.root / source).astype("float32"))
    if values.numel() != classes**2:
        raise setup.refuse(
            f"an infogain matrix of {values.numel():,} values in {source}", f"{classes**2:,}"
        )
    return values


def _multinomial(setup: Setup) -> Forward:
    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        p = _items(bottoms[0])
        chosen = p.gather(1, _items_labels(setup, bottoms[1], p))
        floored = chosen.detach().clamp(min=LEAST_PROBABILITY)
        logs = with_gradient_of(chosen / floored, floored.log())
        return (-logs.sum() / len(p),)

    return forward


def _items(x: Tensor) -> Tensor:
    """(N, …) or (N,) as (N, D)."""
    return x.reshape(len(x), -1)


def _items_labels(setup: Setup, labels: Tensor, x: Tensor) -> Tensor:
    """(N, 1): one label for each item of x (N, D)."""
    labels = labels.detach().reshape(-1, 1)[: len(x)].long()
    expect_below(setup, "label", labels, x.shape[1], LABELS)
    return labels


def _hinge(setup: Setup) -> Forward:
    """One against all: max(0, 1 − x) of the label's value, max(0, 1 + x) of the others."""
    parameter = setup.message.hinge_loss_param
    squared = parameter.norm == parameter.L2

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x = _items(bottoms[0])
        signs = torch.ones_like(x).scatter_(1, _items_labels(setup, bottoms[1], x), -1)
        margins = torch.relu(1 + signs * x)
        return ((margins.square() if squared else margins).sum() / len(x),)

    return forward


def _euclidean(setup: Setup) -> Forward:
    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        difference = bottoms[0] - bottoms[1].reshape(bottoms[0].shape)
        return (difference.square().sum() / (2 * len(bottoms[0])),)

    return forward


def _contrastive(setup: Setup) -> Forward:
    """Hadsell et al. (2006): pairs that are similar come close, others get away.

    The gradient of the others divides by their distance and a little more.
    """
    parameter = setup.message.contrastive_loss_param
    margin, legacy = parameter.margin, parameter.legacy_version

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        difference = _items(bottoms[0] - bottoms[1].reshape(bottoms[0].shape))
        similar = bottoms[2].detach().reshape(-1)[: len(difference)].long() != 0
        squares = difference.square().sum(1)
        known = squares.detach()
        distance = known.sqrt()
        room = (margin - (known if legacy else distance)).clamp(min=0)
        pull = (room > 0).to(room) if legacy else room / (distance + 1e-4)
        losses = torch.where(similar, known, room if legacy else room.square())
        slopes = torch.where(similar, 1, -pull)
        total = with_gradient_of((slopes * squares).sum(), losses.sum())
        return (total / (2 * len(difference)),)

    return forward


def _cross_entropy(setup: Setup) -> Forward:
    """Of the sigmoid of the first bottom and of targets in [0, 1]."""
    find = _ignored(setup, setup.message.loss_param)
    mode = _normalisation(setup, default=setup.message.loss_param.BATCH_SIZE)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, targets = bottoms[0], bottoms[1].detach().reshape(bottoms[0].shape)
        losses = functional.binary_cross_entropy_with_logits(x, targets, reduction="none")
        ignored = find(targets.trunc())
        if ignored is not None:
            losses = losses.masked_fill(ignored, 0)
        return (losses.sum() / _divisor(setup, mode, len(x), losses.numel(), ignored),)

    return forward


def _accuracy(setup: Setup) -> Forward:
    """The share of labels whose value is among the top_k largest; also of each class.

    Equal values count as larger ones (Caffe since 2017; before, only those of later classes).
    """
    parameter = setup.message.accuracy_param
    axis = axis_of(setup.bottoms[0], parameter.axis)
    classified, top_k = _classified(setup, axis, parameter), parameter.top_k

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, labels, ignored = classified([bottoms[0].detach(), bottoms[1]])
        larger = (x >= x.gather(1, labels[:, None])).sum(1)
        hits, counted = (larger <= top_k).to(x.dtype), torch.ones_like(labels, dtype=x.dtype)
        if ignored is not None:
            hits, counted = hits.masked_fill(ignored, 0), counted.masked_fill(ignored, 0)
        accuracy = hits.sum() / counted.sum().clamp(min=1)
        if len(setup.layer.tops) == 1:
            return (accuracy,)
        totals = x.new_zeros(2, x.shape[1])
        totals[0].index_add_(0, labels.flatten(), hits.flatten())
        totals[1].index_add_(0, labels.flatten(), counted.flatten())
        return accuracy, totals[0] / totals[1].clamp(min=1)

    return forward


LOSSES: Mapping[str, Build] = {
    "ContrastiveLoss": _contrastive,
    "EuclideanLoss": _euclidean,
    "HingeLoss": _hinge,
    "InfogainLoss": _infogain,
    "MultinomialLogisticLoss": _multinomial,
    "SigmoidCrossEntropyLoss": _cross_entropy,
    "SoftmaxWithLoss": _softmax_with_loss,
}
"""Their first top has loss weight 1 where the net gives none."""

MEASURES: Mapping[str, Build] = {"Accuracy": _accuracy}
