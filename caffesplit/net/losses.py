"""What a net is trained by: the tops that count in its loss.

Sources: Layer::SetLossWeights in include/caffe/layer.hpp, LossLayer::LayerSetUp in
src/caffe/layers/loss_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caffesplit.errors import Location
from caffesplit.net.findings import Finding
from caffesplit.net.graph import Layer
from caffesplit.net.layer_rules import TYPES
from caffesplit.net.shape_losses import LOSSES

MEASURES = ("Accuracy",)
"""Scalars that are no loss unless a net gives them a weight."""


def loss_weights(layer: Layer) -> tuple[float, ...]:
    """How much each top counts in the loss; of a loss that names no top, its only one."""
    given = tuple(layer.message.loss_weight)
    if given or layer.type not in LOSSES or layer.type in MEASURES:
        return given
    return (1.0, *(0.0,) * (len(layer.tops) - 1))


def check_trained(layers: Sequence[Layer], at: Location) -> Iterator[Finding]:
    """Whether there is a loss among the layers of the net that is trained, as it is trained.

    A fork's layers may be losses that only the fork knows.
    """
    if any(any(loss_weights(layer)) or layer.type not in TYPES for layer in layers):
        return
    message = "no loss in the net that is trained, expected a layer with one; "
    yield Finding("some-loss", f"{message}weight_decay alone changes its weights", at, True)
