"""Caffe's training loop: Solver::Solve and all it calls, src/caffe/solver.cpp."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import IntEnum
from types import TracebackType

import torch

from caffesplit.engines import lr_policy, torch_layerwise, torch_snapshot
from caffesplit.engines.caffe_log import Log
from caffesplit.engines.caffe_random import Random
from caffesplit.engines.torch_feed import FedNet, Place
from caffesplit.engines.torch_group import Group
from caffesplit.engines.torch_net import Outputs
from caffesplit.engines.torch_snapshot import Progress, Snapshots
from caffesplit.engines.torch_tally import Tally, printed
from caffesplit.engines.torch_updates import Updater
from caffesplit.errors import Location, NetError
from caffesplit.experiment import Experiment, SolverNet
from caffesplit.formats.prototxt import Scalar
from caffesplit.net.graph import Net
from caffesplit.net.solver import State

CHECKED = 100
"""Iterations between looks at a loss that is not displayed; more of them would slow a GPU down."""


class Request(IntEnum):
    """What is asked of a solver at work; of two requests the greater one counts."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


class Solver:
    """An experiment's nets, at work. A context, which ends the threads that read data.

    Attributes:
        progress: where it stands.
        stopped: whether it was asked to stop.
        diverged: whether it has ended since its loss is no number any more.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: Place,
        group: Group,
        log: Log,
        requested: Callable[[], Request] = lambda: Request.NONE,
        weights: Sequence[str] = (),
        begun: Callable[[], object] = lambda: None,
    ) -> None:
        """Set up the nets; all of them start from `weights`, paths from the experiment's root.

        `begun` is called when a first batch has passed through the net that is trained, and
        before anything is written.

        Raises:
            NetError, DatabaseError, WeightsError: for nets or data that cannot be run.
        """
        self.progress, self.stopped, self.diverged = Progress(), False, False
        self._experiment, self._parameter = experiment, experiment.solver
        self._group, self._log, self._requested = group, log, requested
        self._weights, self._begun = weights, begun
        self._losses: deque[torch.Tensor] = deque(maxlen=self._parameter.average_loss)
        self._closing = ExitStack()
        log.solver(self._parameter)
        seed = self._parameter.random_seed
        random = Random(seed + place.share.rank if seed >= 0 else None)
        with self._closing as unless_kept:
            self._set_up(place, random)
            self._closing = unless_kept.pop_all()
        self._updater = Updater(self._parameter, self._net.net.parameters)
        prefix = self._parameter.snapshot_prefix or experiment.snapshot_prefix
        self._snapshots = Snapshots(self._parameter, prefix, place.root, log)
        log.scaffolded()

    def _set_up(self, place: Place, random: Random) -> None:
        """The net that is trained, and in the first process those that are tested."""
        (net, state), *tested = self._experiment.uses
        trained = self._experiment.nets[0]
        self._log.train_net(trained.field, _path(trained))
        self._net = self._fed(net, state, place, random)
        if not any(step.losses for step, _ in self._net.net.steps):
            raise NetError(
                f"net {_name(net)!r} has no loss to train by",
                "a layer whose top is one",
                "Add a SoftmaxWithLoss, say, or give a layer a loss_weight.",
                Location(str(trained.path or self._experiment.solver_path)),
            )
        self._tested: list[FedNet] = []
        if place.share.rank:
            return
        by_net = {id(each.net): each for each in self._experiment.nets}
        for number, (net, state) in enumerate(tested):
            of = by_net[id(net)]
            self._log.test_net(number, of.field, _path(of))
            self._tested.append(self._fed(net, state, place, random, self._net))

    def _fed(
        self, net: Net, state: State, place: Place, random: Random, sharing: FedNet | None = None
    ) -> FedNet:
        name = _name(net)
        self._log.net(name, state, state.layers(net))
        fed = self._closing.enter_context(FedNet(net, state, place, random, sharing))
        self._log.net_done(fed.size)
        for path in self._weights:
            torch_snapshot.load(place.root / path, path, fed, self._log)
        return fed

    def restore(self, path: str) -> None:
        """Go on from a solver state (`caffe train --snapshot`)."""
        self._log.resuming(path)
        root = self._experiment.root
        self.progress = torch_snapshot.restore(
            root / path, root, self._net, self._updater, self._log
        )

    # Training

    def solve(self) -> None:
        """Train to max_iter, or until it is asked to stop or has diverged."""
        parameter, log = self._parameter, self._log
        self._group.start_alike([blob for blobs in self._net.net.blobs.values() for blob in blobs])
        log.starting()
        log.solving(_name(self._experiment.net), parameter.lr_policy)
        with self._net.suited():
            self.step_to(parameter.max_iter)
        iteration = self.progress.iteration
        is_due = not parameter.snapshot or iteration % parameter.snapshot
        if self.diverged or (parameter.snapshot_after_train and is_due):
            self._snapshot()
        if self.diverged:
            return
        if self.stopped:
            log.stopped()
        else:
            if parameter.display and iteration % parameter.display == 0:
                with torch.no_grad():
                    self._losses.append(self._net.forward().loss)
                log.last_loss(iteration, self._smoothed())
            if parameter.test_interval and iteration % parameter.test_interval == 0:
                self._test_all()
            log.done()
        log.ended()

    def step_to(self, last: int) -> None:
        """Train until so many updates are made (Solver::Step), as long as nothing stops it."""
        parameter = self._parameter
        first = displayed = self.progress.iteration
        since = time.monotonic()
        while (iteration := self.progress.iteration) < last and not self.stopped:
            if self._is_test_due(iteration):
                self._test_all()
                if self.stopped:
                    return
            is_shown = bool(parameter.display) and iteration % parameter.display == 0
            outputs = self._pass(is_shown and parameter.debug_info)
            if iteration == first:
                self._group.agreed(Request.NONE)  # All processes have come that far.
                self._begun()
            if is_shown or (iteration + 1) % CHECKED == 0 or iteration + 1 == last:
                loss = self._smoothed()
                self.diverged = bool(self._group.agreed(not math.isfinite(loss)))
                if is_shown or self.diverged:
                    now = time.monotonic()
                    self._log.trained(
                        iteration, loss, parameter.display, iteration - displayed, now - since,
                        printed(outputs),
                    )  # fmt: skip
                    displayed, since = iteration, now
                if self.diverged:
                    return
            self._update(is_shown)

    def _is_test_due(self, iteration: int) -> bool:
        parameter = self._parameter
        return (
            parameter.test_interval
            and iteration % parameter.test_interval == 0
            and (iteration > 0 or parameter.test_initialization)
        )

    def _pass(self, with_debug_info: bool) -> Outputs:
        """iter_size passes forward and backward; the gradients add up, the losses are averaged."""
        self._updater.forget_gradients()
        losses = []
        for _ in range(self._parameter.iter_size):
            if with_debug_info:
                outputs = torch_layerwise.logged(self._net, self._log)
            else:
                outputs = self._net.forward()
            if outputs.loss.requires_grad:
                outputs.loss.backward()
            losses.append(outputs.loss.detach())
        self._losses.append(torch.stack(losses).mean() if len(losses) > 1 else losses[0])
        return outputs

    def _update(self, is_shown: bool) -> None:
        """Apply the gradients, then do what is due or asked for."""
        parameter, iteration = self._parameter, self.progress.iteration
        gradients = self._updater.gradients()
        self._group.average(gradients)
        rate = lr_policy.rate(parameter, iteration, self.progress.current_step)
        if parameter.lr_policy == "multistep" and rate.current_step != self.progress.current_step:
            self._log.stepped(iteration, rate.current_step)
        if is_shown:
            self._log.rate(iteration, rate.value)
        norm = self._updater.apply(gradients, rate.value, iteration)
        if norm is not None:
            self._log.clipped(norm, parameter.clip_gradients)
        self.progress = Progress(iteration + 1, rate.current_step)
        request = self._group.agreed(self._requested())
        is_due = parameter.snapshot and self.progress.iteration % parameter.snapshot == 0
        if is_due or request == Request.SNAPSHOT:
            self._snapshot()
        self.stopped = request == Request.STOP

    def _smoothed(self) -> float:
        """The loss, averaged over the last average_loss iterations."""
        return float(torch.stack(list(self._losses)).mean())

    def _snapshot(self) -> None:
        if self._group.share.rank == 0:
            self._begun()
            name = _name(self._experiment.net)
            self._snapshots.write(self.progress, name, self._net, self._updater)

    # Tests

    def _test_all(self) -> None:
        for number, fed in enumerate(self._tested):
            if not self.stopped:
                self._test(number, fed)

    @torch.no_grad()
    def _test(self, number: int, fed: FedNet) -> None:
        parameter = self._parameter
        self._log.testing(self.progress.iteration, number)
        tally = Tally()
        with fed.suited():
            for _ in range(parameter.test_iter[number]):
                self._serve_requests()
                if self.stopped:
                    self._log.test_interrupted()
                    return
                tally.add(fed.forward())
        self._log.tested(tally.loss if parameter.test_compute_loss else None, tally.outputs())

    def _serve_requests(self) -> None:
        """What is asked for during a test; among several processes it waits for its end."""
        if self._group.share.count > 1:
            return
        while (request := self._requested()) != Request.NONE:
            if request == Request.SNAPSHOT:
                self._snapshot()
            self.stopped |= request == Request.STOP

    def __enter__(self) -> Solver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()


def _name(net: Net) -> str:
    name = net.tree.get("name")
    return name.as_string() if name else ""


def _path(named: SolverNet) -> str | None:
    """The net's file as the solver names it; None for a net inside the solver."""
    return named.node.as_string() if isinstance(named.node, Scalar) else None
