"""What an engine runs forward, layer after layer, for weights that are still being chosen."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from caffesplit.engines import pycaffe
from caffesplit.engines.choice import choose, without_caffe
from caffesplit.engines.pycaffe import State
from caffesplit.errors import EngineError
from caffesplit.formats.blobs import Array


class Forward(Protocol):
    """A net set up in TRAIN, run forward on one batch, layer after layer."""

    initial: Path
    """A caffemodel of the weights that it was set up with. It goes with the net."""

    def output_variance(self, layer: str, weights: Array) -> float:
        """The variance of what `layer` puts out with these weights, before anything works on that
        in place. Layers are asked for in the net's order, each as often as need be."""
        ...


class Engine(Protocol):
    """Sets up a net of a state; a context, which ends it."""

    def __call__(self, state: State) -> AbstractContextManager[Forward]: ...


@dataclass(frozen=True)
class Pycaffe:
    """pycaffe, in a Python of its own."""

    python: Path

    def __call__(self, state: State) -> AbstractContextManager[Forward]:
        return pycaffe.forward(state, self.python)


@dataclass(frozen=True)
class Torch:
    """PyTorch."""

    def __call__(self, state: State) -> AbstractContextManager[Forward]:
        from caffesplit.engines import torch_forward

        return torch_forward.forward(state)


def find(name: str = "auto", python: str | None = None) -> Engine:
    """The engine of this name, one of `choice.ENGINES`; `python` is one with pycaffe, where that
    is not to be searched for.

    Raises:
        EngineError: if it is not there.
    """
    if name == "torch":
        choose("torch")
        return Torch()
    try:
        return Pycaffe(pycaffe.find(python))
    except EngineError as error:
        if name == "caffe" or python is not None:
            raise
        with suppress(EngineError):
            return find("torch")
        raise without_caffe(error) from None
