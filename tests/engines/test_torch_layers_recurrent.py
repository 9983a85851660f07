"""LSTM, RNN and LSTMUnit: values and gradients are the real Caffe's, batch after batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_oracle import assert_as_caffe, inputs_of, layers_of, net_text, trained

from caffesplit.engines.torch_net import TorchNet

few = st.integers(1, 3)
STATES = {"LSTM": 2, "RNN": 1}


@st.composite
def recurrents(draw):
    """A layer over T steps of N streams, with a static input or not, with exposed states or not."""
    type_name = draw(st.sampled_from(sorted(STATES)))
    steps, streams, hidden = draw(few), draw(few), draw(few)
    behind = draw(st.lists(few, min_size=1, max_size=2))
    bottoms, learned = [[steps, streams, *behind], [steps, streams]], [0]
    if draw(st.booleans()):
        bottoms.append([streams, *draw(st.lists(few, min_size=1, max_size=2))])
        learned.append(2)
    exposed = STATES[type_name] if draw(st.booleans()) else 0
    bottoms += [[1, streams, hidden]] * exposed
    rest = f"recurrent_param {{ num_output: {hidden} expose_hidden: {str(exposed > 0).lower()} }}"
    return trained(type_name, bottoms, 1 + exposed, rest, learned, losses=[0])


def going_on(rng, name, shape):
    return rng.integers(0, 2, shape) if name == "b1" else None


@given(recurrents(), st.sampled_from([1, 3]), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_recurrent_layers_are_those_of_caffe(real_caffe, text, times, seed):
    assert_as_caffe(real_caffe, text, seed, going_on, times=times)


@given(few, few, st.booleans(), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_an_lstm_unit_is_that_of_caffe(real_caffe, streams, hidden, whole, seed):
    """Also for a cont between 0 and 1, where Caffe's gradient is not the derivative."""

    def cont(rng, name, shape):
        drawn = rng.random(shape)
        return (drawn.round() if whole else drawn) if name == "b2" else None

    bottoms = [(1, streams, hidden), (1, streams, 4 * hidden), (1, streams)]
    text = trained("LSTMUnit", bottoms, 2, learned=[0, 1])
    assert_as_caffe(real_caffe, text, seed, cont)


@pytest.mark.parametrize("type_name", sorted(STATES))
def test_a_batch_goes_on_where_the_last_one_ended(type_name):
    rest = "recurrent_param { num_output: 3 weight_filler { type: 'xavier' } }"
    layers = layers_of(net_text(type_name, [(4, 2, 5), (4, 2)], 1, rest))
    whole, halves = (TorchNet(layers, "TRAIN", inputs_of(layers), seed=1) for _ in range(2))
    x, cont = torch.randn(4, 2, 5), torch.tensor([[0.0, 0], [1, 1], [1, 1], [1, 0]])
    expected = whole.forward({"b0": x, "b1": cont}, keep=True).kept["x0"]
    parts = [
        halves.forward({"b0": x[part], "b1": cont[part]}, keep=True).kept["x0"]
        for part in (slice(2), slice(2, 4))
    ]
    torch.testing.assert_close(torch.cat(parts), expected)
    assert parts[1].requires_grad
