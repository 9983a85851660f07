"""What counts in a net's loss."""

from __future__ import annotations

import pytest

from caffesplit.errors import Location
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.losses import check_trained, loss_weights

LAYERS = {
    "a loss": ('type: "EuclideanLoss" top: "l"', (1.0,)),
    "a loss whose top Caffe adds": ('type: "HingeLoss"', (1.0,)),
    "a loss with a second top": ('type: "SoftmaxWithLoss" top: "l" top: "p"', (1.0, 0.0)),
    "a loss of a weight": ('type: "HingeLoss" top: "l" loss_weight: 0.3', (0.3,)),
    "a loss that does not count": ('type: "HingeLoss" top: "l" loss_weight: 0', (0.0,)),
    "a sum that counts": ('type: "Reduction" top: "l" loss_weight: 2', (2.0,)),
    "a measure": ('type: "Accuracy" top: "a"', ()),
    "no loss": ('type: "ReLU" top: "r"', ()),
    "Python that is no loss": ('type: "Python" top: "r"', ()),
}


def layer(text: str) -> graph.Layer:
    return graph.build(prototxt.parse(f'layer {{ name: "x" {text} }}')).layers[0]


@pytest.mark.parametrize("kind", LAYERS)
def test_losses_count_by_themselves_and_other_tops_by_their_weight(kind):
    text, weights = LAYERS[kind]
    assert loss_weights(layer(text)) == pytest.approx(weights)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_net_without_any_loss_is_told(kind):
    text, weights = LAYERS[kind]
    found = [str(finding) for finding in check_trained([layer(text)], Location("net.prototxt"))]
    message = (
        "net.prototxt: warning: no loss in the net that is trained, expected a layer with one; "
        "weight_decay alone changes its weights [some-loss]"
    )
    assert found == ([] if any(weights) else [message])


def test_the_losses_of_v1_count_as_todays():
    tree = prototxt.parse('layers { name: "x" type: SOFTMAX_LOSS top: "l" }')
    assert loss_weights(graph.build(tree).layers[0]) == (1.0,)


def test_a_layer_that_only_a_fork_knows_may_be_a_loss():
    unknown = [layer('type: "CenterLoss" top: "l"')]
    assert not list(check_trained(unknown, Location("net.prototxt")))
