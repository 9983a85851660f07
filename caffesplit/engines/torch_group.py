"""Several processes that train one net together, as Caffe's GPUs do (`caffe train -gpu 0,1`).

Each takes its part of the data, in an order of its own where that is shuffled; the gradients are
averaged before every update, so that all have the same weights. The first alone tests, logs and
snapshots. Source: src/caffe/parallel.cpp.

    torchrun --nproc_per_node=2 -m caffesplit train EXP --engine torch
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist

from caffesplit.engines.torch_data import ALONE, Share

PATIENCE = timedelta(days=7)
"""The others wait while the first process tests or snapshots; one that ends is noticed at once."""


class Group(Protocol):
    """The processes of a training, this one among them."""

    @property
    def share(self) -> Share: ...

    def start_alike(self, blobs: Sequence[torch.Tensor]) -> None:
        """Give all processes the first one's values."""

    def average(self, gradients: Sequence[torch.Tensor]) -> None:
        """Make each gradient the mean over the processes."""

    def agreed(self, request: int) -> int:
        """The largest of the processes' requests."""
        ...


class One:
    """A process by itself."""

    share = ALONE

    def start_alike(self, blobs: Sequence[torch.Tensor]) -> None:
        pass

    def average(self, gradients: Sequence[torch.Tensor]) -> None:
        pass

    def agreed(self, request: int) -> int:
        return request


class Several:
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.share = Share(dist.get_rank(), dist.get_world_size())
        # Requests must not wait for what a GPU has still to do.
        self._on_cpu = dist.new_group(backend="gloo", timeout=PATIENCE)

    def start_alike(self, blobs: Sequence[torch.Tensor]) -> None:
        for blob in blobs:
            dist.broadcast(blob.detach(), 0)  # Which is no part of what is learnt.

    @torch.no_grad()
    def average(self, gradients: Sequence[torch.Tensor]) -> None:
        flat = torch.cat([each.reshape(-1) for each in gradients])
        dist.all_reduce(flat)
        flat /= self.share.count
        means = flat.split([each.numel() for each in gradients])
        torch._foreach_copy_(
            list(gradients), [mean.view_as(own) for mean, own in zip(means, gradients, strict=True)]
        )

    def agreed(self, request: int) -> int:
        largest = torch.tensor(request)
        dist.all_reduce(largest, dist.ReduceOp.MAX, self._on_cpu)
        return int(largest)


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun has started this process in, left at the end; One without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available():
        yield One()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Several()
    finally:
        dist.destroy_process_group()
