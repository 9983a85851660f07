"""Batches made ahead of the net that takes them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod

import torch

from caffesplit.engines.torch_data import Batch, Source

SMALL = 1 << 14
"""Values in a batch that is made sooner than handed over from another thread."""

AT_ONCE = 16
"""Small batches that are made in a row: the processor then has the code for it at hand."""


class Prefetch:
    """A source whose batches are made ahead on a thread of their own, `depth` of them.

    Small ones are made when none is left: handing them over would take longer than that. For a
    CUDA `device`, batches come from pinned memory.
    """

    def __init__(self, source: Source, depth: int, device: torch.device) -> None:
        self.shapes = source.shapes
        self._source, self._device = source, device
        self._thread = ThreadPoolExecutor(1, "prefetch", self._begin)
        self._ordered: deque[Future[Batch]] = deque()
        self._small: deque[Batch] = deque()
        if sum(map(prod, self.shapes.values())) > SMALL:
            for _ in range(depth):
                self._order_batch()

    def next(self) -> Batch:
        if self._ordered:
            batch = self._ordered.popleft().result()
            self._order_batch()
        else:
            if not self._small:
                self._small.extend(self._made() for _ in range(AT_ONCE))
            batch = self._small.popleft()
        if self._device.type == "cpu":
            return batch
        return {name: blob.to(self._device, non_blocking=True) for name, blob in batch.items()}

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _order_batch(self) -> None:
        self._ordered.append(self._thread.submit(self._made))

    def _begin(self) -> None:
        """Each thread has its own GPU, the first one by default."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    def _made(self) -> Batch:
        batch = self._source.next()
        if self._device.type == "cuda":
            return {name: blob.pin_memory() for name, blob in batch.items()}
        return batch
