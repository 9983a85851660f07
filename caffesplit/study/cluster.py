"""The stages of a study as tasks of a Ray cluster, on a folder that all its nodes share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from caffesplit.errors import CaffesplitError, EngineError
from caffesplit.study.run import Result, Task, Workers
from caffesplit.study.stage import Means
from caffesplit.study.stage_make import Place

LOCAL = "local"
"""In place of an address: a cluster of this machine alone."""

RETRIES = 5
"""How often a task whose node died is begun again, on another one. It goes on where it was."""


def on_cluster(address: str, means: Means, cpus: float, gpus: float) -> Workers:
    """Each task on whatever node of the cluster has so many CPUs and GPUs left.

    Raises:
        EngineError: if ray is not installed, or there is no cluster at `address`.
    """
    ray = _ray()
    if not ray.is_initialized():
        try:
            ray.init(
                None if address == LOCAL else address, log_to_driver=False, configure_logging=False
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise EngineError(
                f"no Ray cluster at {address} ({error})",
                "its address, as `ray start --head` prints it, or `local`",
                "Start one with `ray start --head`.",
            ) from error

    def work(tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_carried_out)
        results: dict[str, Any] = {}
        for task in tasks:
            needs = {name: results[name] for name in task.needs.values()}
            results[task.name] = remote.remote(task, means, list(needs), *needs.values())
        pending = {results[task.name]: task for task in tasks}
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            task, found = pending.pop(ready), ray.get(ready)
            if found is not None:
                yield task, found

    return work


def _carried_out(
    task: Task, means: Means, names: Sequence[str], *found: Result | None
) -> Result | None:
    """The result of a task on a node of the cluster; None if one that it needs has failed.

    An error is handed back as a value, since raised ones would be wrapped by Ray.
    """
    places = {
        name: place for name, place in zip(names, found, strict=True) if isinstance(place, Place)
    }
    if len(places) < len(names):
        return None
    try:
        return task(places, means)
    except CaffesplitError as error:
        return error


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            "ray is not installed",
            "it for --cluster",
            "Run `pip install 'caffesplit[cluster]'`, or leave out --cluster.",
        ) from error
    return ray
