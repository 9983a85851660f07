"""Runs made by hand: rows ten iterations and ten seconds apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffesplit.formats.trainlog import Event, TestRow, TrainLog, TrainRow
from caffesplit.report.runs import Run


def made_run(
    name: str,
    train: Sequence[float] = (),
    test: Sequence[float] | Mapping[int, Sequence[Mapping[str, float]]] = (),
    lr: Sequence[float] | float = 0.1,
    starts: Sequence[tuple[int, float]] = (),
) -> Run:
    """A run with these training losses, and these accuracies of its test net or outputs by net.

    `starts` are pairs of an iteration and how many seconds were lost when it was started there.
    """

    def seconds(iteration: int) -> float:
        return iteration + sum(lost for start, lost in starts if iteration >= start)

    rates = lr if isinstance(lr, Sequence) else [lr] * len(train)
    nets = test if isinstance(test, Mapping) else {0: [{"accuracy": value} for value in test]}
    trained = [
        TrainRow(10 * place, seconds(10 * place), rate, loss, {})
        for place, (loss, rate) in enumerate(zip(train, rates, strict=True))
    ]
    tested = [
        TestRow(10 * place, seconds(10 * place), 0.1, outputs.get("loss", 1.0), outputs, net)
        for net, rows in nets.items()
        for place, outputs in enumerate(rows)
    ]
    events = [Event("start", start, seconds(start), name) for start, _ in starts]
    return Run(
        name, TrainLog(f"{name}/train.log", tuple(trained), tuple(tested), tuple(events), ())
    )
