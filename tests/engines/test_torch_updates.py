"""The update rules beside loops in float64 that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffesplit.engines.torch_net import Parameter
from caffesplit.engines.torch_updates import RULES, Updater
from caffesplit.errors import WeightsError
from caffesplit.formats import schema

SHAPES = ((4, 3, 2, 2), (4,), (5, 4), (3,))
MULTIPLIERS = ((1, 1), (2, 0), (1, 1), (0, 1))
"""lr_mult and decay_mult of each; the last one is frozen."""


def solver(kind, **fields):
    message = schema.message_class("SolverParameter")(type=kind, **fields)
    if kind not in ("AdaGrad", "RMSProp"):
        message.momentum = 0.9
    return message


def naive(message, weights, history, gradients, rate, iteration):
    """One update of every weight, one number after the other; in place, in float64."""
    clip = message.clip_gradients
    norm = math.sqrt(sum(float(g) ** 2 for blob in gradients for g in blob.flat))
    scale = clip / norm if clip >= 0 and norm > clip else 1
    for number, (blob, (lr_mult, decay_mult)) in enumerate(zip(weights, MULTIPLIERS, strict=True)):
        for place in np.ndindex(blob.shape):
            w, g = blob[place], gradients[number][place] * scale / message.iter_size
            slope = w if message.regularization_type == "L2" else (w > 0) * 1.0 - (w < 0)
            g += message.weight_decay * decay_mult * slope
            own = [kind[number][place] for kind in history]
            step, new = naive_step(message, g, own, rate * lr_mult, iteration)
            blob[place] = w - step
            for kind, value in zip(history, new, strict=True):
                kind[number][place] = value


def naive_step(message, g, history, lr, iteration):
    m, delta, t = message.momentum, message.delta, iteration + 1
    h = history[0]
    if message.type == "SGD":
        new = m * h + lr * g
        return new, [new]
    if message.type == "Nesterov":
        new = m * h + lr * g
        return (1 + m) * new - m * h, [new]
    if message.type == "AdaGrad":
        new = h + g * g
        return lr * g / (math.sqrt(new) + delta), [new]
    if message.type == "RMSProp":
        new = message.rms_decay * h + (1 - message.rms_decay) * g * g
        return lr * g / (math.sqrt(new) + delta), [new]
    if message.type == "AdaDelta":
        new = m * h + (1 - m) * g * g
        step = g * math.sqrt((history[1] + delta) / (new + delta))
        return lr * step, [new, m * history[1] + (1 - m) * step * step]
    new, square = m * h + (1 - m) * g, message.momentum2 * history[1]
    square += (1 - message.momentum2) * g * g
    correction = math.sqrt(1 - message.momentum2**t) / (1 - m**t)
    return lr * correction * new / (math.sqrt(square) + delta), [new, square]


def parameters(rng):
    values = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
    made = tuple(
        Parameter(f"layer[{number}]", torch.tensor(value, requires_grad=lr != 0), lr, decay)
        for number, (value, (lr, decay)) in enumerate(zip(values, MULTIPLIERS, strict=True))
    )
    return made, [value.astype(np.float64) for value in values]


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=6, deadline=None)
@given(
    clip=st.sampled_from([-1.0, 0.5, 1000.0]),
    iter_size=st.sampled_from([1, 3]),
    regularization=st.sampled_from(["L1", "L2"]),
    delta=st.sampled_from([1e-6, 0.25]),
    seed=st.integers(0, 1000),
)
def test_updates_are_caffes_clip_then_normalise_then_decay_then_step(
    kind, clip, iter_size, regularization, delta, seed
):
    message = solver(
        kind, weight_decay=0.01, clip_gradients=clip, iter_size=iter_size,
        regularization_type=regularization, delta=delta,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    made, expected = parameters(rng)
    updater = Updater(message, made)
    history = [[np.zeros(shape) for shape in SHAPES] for _ in range(RULES[kind].histories)]
    for iteration in range(4):
        gradients = [rng.normal(size=shape) for shape in SHAPES]
        gradients[3][...] = 0  # Frozen: no backward pass reaches it.
        for parameter, gradient in zip(made[:3], gradients, strict=False):
            parameter.tensor.grad = torch.tensor(gradient, dtype=torch.float32)
        norm = updater.apply(updater.gradients(), 0.1, iteration)
        updater.forget_gradients()
        naive(message, expected, history, gradients, 0.1, iteration)
        assert (norm is not None) == (clip == 0.5)
    for parameter, values in zip(made, expected, strict=True):
        np.testing.assert_allclose(parameter.tensor.detach(), values, rtol=2e-4, atol=2e-5)
    rows = [blob for each in history for blob in each]
    for own, values in zip(updater.arrays(), rows, strict=True):
        np.testing.assert_allclose(own, values, rtol=2e-4, atol=2e-5)


def test_a_weight_without_a_gradient_still_decays():
    weight = Parameter("ip[0]", torch.ones(2, requires_grad=True), 1, 1)
    updater = Updater(solver("SGD", weight_decay=0.5), [weight])
    updater.apply(updater.gradients(), 0.1, 0)
    assert weight.tensor.tolist() == pytest.approx([0.95, 0.95])


def test_a_history_is_taken_up_where_it_was_left():
    rng = np.random.default_rng(0)
    one, _ = parameters(rng)
    other = tuple(
        Parameter(each.name, each.tensor.detach().clone(), each.lr_mult, each.decay_mult)
        for each in one
    )
    message = solver("Adam", weight_decay=0.1)
    ahead, behind = Updater(message, one), Updater(message, other)
    ahead.apply(ahead.gradients(), 0.1, 0)
    for mine, theirs in zip(other, one, strict=True):
        mine.tensor.copy_(theirs.tensor.detach())
    behind.restore(ahead.arrays(), "x.solverstate")
    for updater in (ahead, behind):
        updater.forget_gradients()
        updater.apply(updater.gradients(), 0.1, 1)
    for mine, theirs in zip(other, one, strict=True):
        assert torch.equal(mine.tensor, theirs.tensor.detach())


def test_the_history_of_another_type_or_net_is_refused():
    made, _ = parameters(np.random.default_rng(0))
    updater = Updater(solver("SGD"), made)
    adams = Updater(solver("Adam"), made).arrays()
    with pytest.raises(WeightsError) as caught:
        updater.restore(adams, "x.solverstate")
    assert str(caught.value) == (
        "x.solverstate: a history of 8 blobs, expected 4\n"
        "Resume with the net and the solver type (SGD) it is of."
    )
    with pytest.raises(WeightsError) as caught:
        updater.restore((*adams[:3], np.zeros(7)), "x.solverstate")
    assert str(caught.value).startswith(
        "x.solverstate: blob 3: a history blob of shape (7,), expected (3,)\n"
    )


def test_momentum_out_of_range_gives_what_c_gives_and_no_error():
    weight = Parameter("ip[0]", torch.ones(2, requires_grad=True), 1, 1)
    updater = Updater(solver("Adam", momentum2=2), [weight])
    updater.apply(updater.gradients(), 0.1, 0)
    assert torch.isnan(weight.tensor).all()
