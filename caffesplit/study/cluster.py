"""The stages of a study as tasks of a Ray cluster, on a folder that all its nodes share."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from caffesplit.errors import EngineError
from caffesplit.study.run import Result, Task, Workers, result
from caffesplit.study.stage import Interrupted, Means

LOCAL = "local"
"""In place of an address: a cluster of this machine alone."""

RETRIES = 5
"""How often a task whose node died is begun again, on another one. It goes on where it was."""

STOPPING = 60.0
"""Seconds that tasks get for a snapshot when they are stopped."""

ANSWER = 10.0
"""Seconds that a cluster gets to answer."""

QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""A task that asks for no GPU sees none; and a study is nobody else's business."""


@contextmanager
def on_cluster(address: str, means: Means, cpus: float, gpus: float) -> Iterator[Workers]:
    """Each task on whatever node of the cluster has so many CPUs and GPUs left.

    Ray shows a task its GPUs alone, as 0, 1 …, and Caffe gets all that it sees.

    Raises:
        EngineError: if ray is not installed, there is no cluster at `address`, or none of its nodes
            has so much.
    """
    ray = _ray()
    visible = ",".join(map(str, range(math.ceil(gpus)))) or None
    there = replace(means, gpu=visible)

    def work(tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_carried_out)
        results: dict[str, Any] = {}
        for task in tasks:
            needs = {name: results[name] for name in task.needs.values()}
            results[task.name] = remote.remote(task, there, list(needs), *needs.values())
        pending = {results[task.name]: task for task in tasks}
        try:
            while pending:
                (ready,), _ = ray.wait(list(pending), num_returns=1)
                task = pending.pop(ready)
                yield task, _result(ray, ready)
        except KeyboardInterrupt:
            _stop(ray, list(pending))
            raise Interrupted from None

    _connect(ray, address)
    try:
        _check_nodes(ray, cpus, gpus)
        yield work
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    own = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineError(
            f"no Ray cluster at {address} ({error})",
            "its address, as `ray start --head` prints it, or `local`",
            "Start one with `ray start --head`.",
        ) from error


def _check_nodes(ray: Any, cpus: float, gpus: float) -> None:
    """Refuse what no node has. Ray would wait for one that has, without a word."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= gpus for each in nodes):
        there = "; ".join(f"{e.get('CPU', 0):g} CPUs, {e.get('GPU', 0):g} GPUs" for e in nodes)
        raise EngineError(
            f"no node of the cluster has {cpus:g} CPUs and {gpus:g} GPUs",
            "one that has as much as a stage takes",
            f"There are: {there}. Correct --cpus and --gpus, or add a node.",
        )


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at an address. Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=ANSWER).close()


def _carried_out(task: Task, means: Means, names: Sequence[str], *found: Result) -> Result:
    """The result of a task on a node of the cluster.

    An error is handed back as a value, since raised ones would be wrapped by Ray.
    """
    # Ray's processes block SIGINT, and what they start inherits that: Caffe would not stop on it.
    # In a group of its own, this one gets none from the terminal, but from `ray.cancel` alone.
    with suppress(PermissionError):
        os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    return result(task, dict(zip(names, found, strict=True)), means)


def _result(ray: Any, ready: Any) -> Result:
    try:
        found: Result = ray.get(ready)
    except ray.exceptions.RayError as error:
        if isinstance(getattr(error, "cause", None), Interrupted):
            raise Interrupted from None
        return EngineError(
            f"the cluster gave this stage up ({type(error).__name__})",
            f"a node that lives, or {RETRIES} others after it",
            str(error),
        )
    return found


def _stop(ray: Any, pending: Sequence[Any]) -> None:
    """Stop tasks as Ctrl-C would: what trains takes a snapshot first."""
    for one in pending:
        ray.cancel(one, force=False)
    ray.wait(list(pending), num_returns=len(pending), timeout=STOPPING)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            "ray is not installed",
            "it for --cluster",
            "Install it: pip install ray, or leave out --cluster.",
        ) from error
    return ray
