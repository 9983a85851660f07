"""Off the CPU, without a GPU: on torch's "meta" device, which has shapes in place of values.

It refuses tensors of the CPU beside its own, and to tell a value, which a GPU would have to be
waited for.
"""

import numpy as np
import pytest
import torch
from drawn_layers import FAMILIES, net_text
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import inputs_of, layers_of, learned_bottoms, run_torch, with_losses

from caffesplit.engines.torch_net import TorchNet
from caffesplit.engines.torch_updates import RULES, Updater
from caffesplit.errors import NetError
from caffesplit.formats import schema


@pytest.fixture(autouse=True)
def _generators_of_the_cpu(monkeypatch):
    """The device has none of its own."""

    class Generator(torch.Generator):
        def __new__(cls, device="cpu"):
            return super().__new__(cls)

    monkeypatch.setattr(torch, "Generator", Generator)


def gone_back(text):
    """The net on the device, behind a pass forward and backward."""
    layers = layers_of(text)
    net = TorchNet(layers, "TRAIN", inputs_of(layers), device="meta")
    batch = {name: torch.empty(shape, device="meta") for name, shape in inputs_of(layers).items()}
    outputs = net.forward(batch)
    assert {value.device.type for _, value, _ in outputs.values} <= {"meta"}
    if outputs.loss.requires_grad:
        outputs.loss.backward()
    return net


def is_legal(text):
    try:
        run_torch(text, np.random.default_rng(0))
    except NetError:
        return False
    return True


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_layers_compute_where_their_net_is_and_wait_for_no_value(family):
    layers, _ = FAMILIES[family]

    @given(layers.filter(lambda text: 'type: "Filter"' not in text))
    @settings(max_examples=60, deadline=None)
    def check(text):
        text = with_losses(learned_bottoms(text))
        if is_legal(text):
            gone_back(text)

    check()


def test_a_filter_alone_waits_for_the_device():
    """How many items pass, only their values tell."""
    with pytest.raises(NotImplementedError, match="nonzero"):
        gone_back(net_text("Filter", [[3], [3]]))


@given(st.sampled_from(sorted(RULES)), st.sampled_from(["L1", "L2"]))
@settings(deadline=None)
def test_updates_are_computed_where_the_weights_are(solver_type, regularization):
    text = learned_bottoms(
        net_text("InnerProduct", [[2, 3]], 1, "inner_product_param {num_output: 2}")
    )
    net = gone_back(with_losses(text))
    solver = schema.message_class("SolverParameter")(
        type=solver_type, regularization_type=regularization, weight_decay=0.1, iter_size=2
    )
    updater = Updater(solver, net.parameters)
    updater.apply(updater.gradients(), 0.1, 0)
    assert {each.device.type for each in updater.history} == {"meta"}
