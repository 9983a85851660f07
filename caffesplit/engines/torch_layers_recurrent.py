"""LSTM, RNN and LSTMUnit: layers that go through their bottom step by step.

Bottoms are x (T, N, …), cont (T, N), which is 0 where a sequence begins and else 1, and perhaps
a static input (N, …); with expose_hidden also the first hidden states, which have no gradient.
Otherwise each batch goes on where the one before it ended.

Sources: recurrent_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp and rnn_layer.cpp in
src/caffe/layers (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import Build, Forward, Setup, Tensors
from caffesplit.net.shape_recurrent import STATES, has_static


class _LSTMUnit(torch.autograd.Function):
    """The cell (N, D), the gates (N, 4·D) and cont (N, 1) → the next cell and hidden state."""

    @staticmethod
    def forward(ctx: Any, cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        into, forget, out = gates[..., : 3 * cell.shape[-1]].sigmoid().chunk(3, -1)
        new = gates[..., 3 * cell.shape[-1] :].tanh()
        forget = forget * cont
        next_cell = forget * cell + into * new
        squashed = next_cell.tanh()
        ctx.save_for_backward(cell, into, forget, out, new, squashed)
        return next_cell, out * squashed

    @staticmethod
    def backward(ctx: Any, cell_gradient: Tensor, hidden_gradient: Tensor) -> Any:
        cell, into, forget, out, new, squashed = ctx.saved_tensors
        both = cell_gradient + hidden_gradient * out * (1 - squashed * squashed)
        gates = (
            both * new * into * (1 - into),
            both * cell * forget * (1 - forget),
            hidden_gradient * squashed * out * (1 - out),
            both * into * (1 - new * new),
        )
        return both * forget, torch.cat(gates, -1), None


def _lstm_unit(setup: Setup) -> Forward:
    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        cell, gates, cont = bottoms
        return _LSTMUnit.apply(cell, gates, cont.detach()[..., None])

    return forward


Step = Callable[[Sequence[Tensor], Tensor, Tensor, Tensors], tuple[Tensor, ...]]
"""Hidden states (N, D), what x adds (N, …), cont (N, 1) and blobs → the next hidden states."""


def _lstm_step(
    states: Sequence[Tensor], added: Tensor, cont: Tensor, blobs: Tensors
) -> tuple[Tensor, ...]:
    hidden, cell = states
    gates = added + functional.linear(hidden * cont, blobs[-1])
    cell, hidden = _LSTMUnit.apply(cell, gates, cont)
    return hidden, cell


def _rnn_step(
    states: Sequence[Tensor], added: Tensor, cont: Tensor, blobs: Tensors
) -> tuple[Tensor, ...]:
    return (torch.tanh(added + functional.linear(states[0] * cont, blobs[-3])),)


def _recurrent(setup: Setup, step: Step, to_output: Callable[[Tensor, Tensors], Tensor]) -> Forward:
    """A layer whose first hidden state, over all steps, makes its first top."""
    parameter, static = setup.message.recurrent_param, has_static(setup.layer)
    exposed, last = parameter.expose_hidden, _LastStates(setup)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, conts = bottoms[0], bottoms[1].detach()
        added = functional.linear(x.flatten(2), blobs[0], blobs[1])
        if static:
            added = added + functional.linear(bottoms[2].flatten(1), blobs[2])
        first = (
            [state.detach()[0] for state in bottoms[2 + static :]] if exposed else last.states(x)
        )
        states, hidden = tuple(first), []
        for each, cont in zip(added.unbind(), conts[..., None].unbind(), strict=True):
            states = step(states, each, cont, blobs)
            hidden.append(states[0])
        final = tuple(state.detach()[None] for state in states)
        last.keep(final)
        return (to_output(torch.stack(hidden), blobs), *(final if exposed else ()))

    return forward


class _LastStates:
    """The hidden states with which the last batch ended; zeros at first."""

    def __init__(self, setup: Setup) -> None:
        self.size = setup.message.recurrent_param.num_output
        self.count = STATES[setup.layer.type]
        self.kept: tuple[Tensor, ...] = ()

    def states(self, x: Tensor) -> list[Tensor]:
        """For x of shape (T, N, …), each (N, num_output)."""
        if not self.kept:
            return [x.new_zeros(x.shape[1], self.size)] * self.count
        return [state[0] for state in self.kept]

    def keep(self, states: tuple[Tensor, ...]) -> None:
        self.kept = states


def _lstm(setup: Setup) -> Forward:
    return _recurrent(setup, _lstm_step, lambda hidden, blobs: hidden)


def _rnn(setup: Setup) -> Forward:
    def output(hidden: Tensor, blobs: Tensors) -> Tensor:
        return torch.tanh(functional.linear(hidden, blobs[-2], blobs[-1]))

    return _recurrent(setup, _rnn_step, output)


RECURRENT: Mapping[str, Build] = {"LSTM": _lstm, "LSTMUnit": _lstm_unit, "RNN": _rnn}
