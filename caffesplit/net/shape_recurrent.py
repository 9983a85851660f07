"""Shapes of LSTM, RNN and LSTMUnit layers.

Sources: src/caffe/layers/recurrent_layer.cpp, lstm_layer.cpp, rnn_layer.cpp and
lstm_unit_layer.cpp (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Sequence

from caffesplit.net.graph import Layer
from caffesplit.net.partial import Partial, Refused, Size, agree, differ, expect_axes, shown

STATES = {"LSTM": 2, "RNN": 1}
"""The hidden states that a layer hands on from step to step: h and c, or h."""


def exposed(layer: Layer) -> int:
    """How many hidden states are bottoms and tops of the layer (`expose_hidden`)."""
    return STATES[layer.type] if layer.message.recurrent_param.expose_hidden else 0


def has_static(layer: Layer) -> bool:
    """Whether the third bottom is an input that stays the same over all steps."""
    return len(layer.bottoms) > 2 + exposed(layer)


def recurrent(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """x (T, N, …), cont (T, N), perhaps x_static (N, …) → (T, N, num_output).

    With expose_hidden also the first states → the last ones, each (1, N, num_output).
    """
    values, going_on, *others = bottoms
    expect_axes(values, 3)
    expect_axes(going_on, 2, 2)
    if not agree(values[:2], going_on):
        message = f"bottoms {shown(values)} and {shown(going_on)}, expected (steps, streams) first"
        raise Refused("equal-shapes", message)
    steps, streams = (a if b is None else b for a, b in zip(values, going_on, strict=False))
    if has_static(layer):
        static = others.pop(0)
        expect_axes(static, 2)
        if differ(static[0], streams):
            message = f"a static input {shown(static)}, expected {streams} streams"
            raise Refused("equal-shapes", message)
    num_output = layer.message.recurrent_param.num_output
    state: tuple[Size, ...] = (1, streams, num_output)
    for other in others:
        if not agree(other, state):
            message = f"a hidden state {shown(other)}, expected {shown(state)}"
            raise Refused("equal-shapes", message)
    return ((steps, streams, num_output), *(state,) * len(others))


def lstm_unit(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """The cell (1, N, D), the gates (1, N, 4·D) and cont (1, N) → cell and hidden state."""
    cell, gates, going_on = bottoms
    expect_axes(cell, 3, 3)
    gate = None if cell[2] is None else 4 * cell[2]
    for found, expected in (
        (cell, (1, *cell[1:])),
        (gates, (1, cell[1], gate)),
        (going_on, (1, cell[1])),
    ):
        if not agree(found, expected):
            message = f"a bottom {shown(found)}, expected {shown(expected)}"
            raise Refused("equal-shapes", message)
    return cell, cell
