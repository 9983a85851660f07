"""DummyData: batches that fillers make.

Source: src/caffe/layers/dummy_data_layer.cpp.
"""

from __future__ import annotations

import torch

from caffesplit.engines.torch_fillers import fill
from caffesplit.errors import NetError
from caffesplit.formats import schema
from caffesplit.net.graph import Layer
from caffesplit.net.partial import Refused
from caffesplit.net.shape_sources import source_tops


class Dummy:
    """Constants are filled once and for all, everything else anew for every batch.

    Raises:
        NetError: if shapes or fillers are not one for all tops, or one for each.
    """

    def __init__(self, layer: Layer, generator: torch.Generator) -> None:
        tops, given = len(layer.tops), list(layer.message.dummy_data_param.data_filler)
        if len(given) not in (0, 1, tops):
            raise NetError(
                f"layer {layer.name!r} with {len(given)} data_filler for {tops} tops",
                "none, one for all, or one for each",
                at=layer.location,
            )
        fillers = given or [schema.message_class("FillerParameter")()]
        self._fillers = fillers if len(fillers) == tops else fillers * tops
        self._layer, self._generator = layer, generator
        self.shapes = _shapes(layer)
        self._constant = self._filled(constant=True)

    def next(self) -> dict[str, torch.Tensor]:
        return {**self._constant, **self._filled(constant=False)}

    def _filled(self, constant: bool) -> dict[str, torch.Tensor]:
        """The tops whose filler is a constant one, or those whose filler is not."""
        return {
            name: fill(filler, shape, self._generator, self._layer)
            for (name, shape), filler in zip(self.shapes.items(), self._fillers, strict=True)
            if (filler.type == "constant") == constant
        }


def _shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    try:
        tops = source_tops(layer, {})
    except Refused as refused:
        raise NetError(f"layer {layer.name!r}: {refused.message}", at=layer.location) from None
    return {
        name: tuple(size or 0 for size in shape or ())
        for name, shape in zip(layer.tops, tops, strict=True)
    }
