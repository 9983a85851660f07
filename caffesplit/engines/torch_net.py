"""A net as Caffe runs it, made of torch's operations; gradients come from autograd.

Blobs go by name: a layer in place gives its blob's name a new tensor and leaves the old one be.
In four corners Caffe's gradients are of another kind; here they are the true ones:
- where a layer in place overwrites what an earlier layer's backward pass needs (a Dropout in place
  behind a Sigmoid), Caffe computes with the values that stand there then (`net.check.kept_tops`);
- frozen blobs (lr_mult 0) of an LSTM or RNN have gradients in Caffe, which count where gradients
  are clipped;
- a Parameter layer's gradient is in Caffe that of the last of iter_size passes, not their sum;
- a loss that another layer reads passes its weight on in Caffe as a value of its gradient.

Source: src/caffe/net.cpp (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffesplit.engines.torch_net_blobs import Parameter, load, own_blobs
from caffesplit.engines.torch_net_runs import laid_out, runs_of
from caffesplit.engines.torch_net_steps import output_blobs, set_up
from caffesplit.errors import NetError
from caffesplit.net.blobs import Shape
from caffesplit.net.graph import Layer

__all__ = ["Outputs", "Parameter", "TorchNet"]


@dataclass(frozen=True)
class Outputs:
    """What a forward pass puts out.

    Attributes:
        loss: the weighted sum of all losses, a scalar; with a gradient.
        values: the net's output blobs by name, in Caffe's order, each with its loss weight.
        kept: all blobs by name, if they were asked for.
    """

    loss: Tensor
    values: tuple[tuple[str, Tensor, float], ...]
    kept: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


class TorchNet:
    """The layers of a net in one state, and their blobs.

    Attributes:
        layers: in file order, data layers included.
        blobs: layer name → its blobs, in Caffe's order and shapes; a BatchNorm's statistics too.
        parameters: all blobs, shared ones once, in Caffe's order (that of a solver's history).
        shapes: blob name → its last shape, for the batch before or, at first, as set up.
        steps: the layers that compute something, each with its blobs, as set up for `shapes`.
        outputs: of each output blob what it is shown as, its name and loss weight.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        phase: str,
        inputs: Mapping[str, Shape],
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        share: TorchNet | None = None,
        force_backward: bool = False,
        root: Path | str = ".",
    ) -> None:
        """Set up the layers that a net has in a state.

        Args:
            inputs: the shapes of what comes from outside: tops of data layers, and net inputs.
            seed: for initial values, the same on every device, and for what layers draw.
            share: a net whose blobs the layers of the same names take as theirs
                (Net::ShareTrainedLayersWith).
            force_backward: whether blobs with lr_mult 0 have gradients too.
            root: the folder that relative paths in layers start from.

        Raises:
            NetError: for a layer that Caffe refuses, or that this engine does not have.
        """
        self.layers, self.device = tuple(layers), torch.device(device)
        self._inputs = {name: tuple(shape) for name, shape in inputs.items()}
        draws = torch.Generator(self.device).manual_seed(seed)
        self._set_up = partial(set_up, self.layers, phase, generator=draws, root=Path(root))
        steps, self.shapes = self._set_up(self._inputs)
        self.parameters, owned = own_blobs(
            steps,
            share.blobs if share else {},
            torch.Generator().manual_seed(seed),
            self.device,
            force_backward,
        )
        self.steps = tuple(zip(steps, owned, strict=True))
        self.blobs: dict[str, list[Tensor]] = {layer.name: [] for layer in self.layers}
        for step, blobs in self.steps:
            self.blobs[step.layer.name] = self.blobs[step.layer.name] or [*blobs]
        self._runs = runs_of(self.steps)
        self.outputs = output_blobs(self.layers, inputs)

    def forward(self, batch: Mapping[str, Tensor], keep: bool = False) -> Outputs:
        """Run all layers on the tops of the data layers, and on the net's inputs, by name.

        Batches may be of other shapes than the net was set up for, as Caffe reshapes a net.

        Raises:
            NetError: if a layer refuses its bottoms' shapes, or their values, as a label that is
                no class.
        """
        if any(value.shape != self._inputs.get(name) for name, value in batch.items()):
            self._reshape({name: tuple(value.shape) for name, value in batch.items()})
        values = {name: laid_out(value) for name, value in batch.items()}
        losses = [loss for run in self._runs for loss in run(values)]
        total = _sum(losses) if losses else torch.zeros((), device=self.device)
        outputs = tuple(
            (shown, values[name].detach(), weight) for shown, name, weight in self.outputs
        )
        return Outputs(total, outputs, values if keep else {})

    def _reshape(self, inputs: Mapping[str, Shape]) -> None:
        """Set up the layers for other shapes, with the blobs they have (Net::Reshape)."""
        steps, shapes = self._set_up(inputs)
        for (old, _), new in zip(self.steps, steps, strict=True):
            if new.blobs != old.blobs:
                raise NetError(
                    f"layer {new.layer.name!r}: bottoms that need blobs {new.blobs}",
                    f"such as fit its blobs {old.blobs}",
                    "Give the data layer a crop_size, or new_height and new_width.",
                    new.layer.location,
                )
        self._inputs, self.shapes = dict(inputs), shapes
        self.steps = tuple((new, blobs) for new, (_, blobs) in zip(steps, self.steps, strict=True))
        self._runs = runs_of(self.steps)

    def load(self, weights: Mapping[str, Any], path: str) -> tuple[str, ...]:
        """Copy values from a weight file by layer name (Net::CopyTrainedLayersFrom).

        Returns: the names of the file's layers that the net does not have; they are ignored.

        Raises:
            WeightsError: if a layer has another number of blobs, or blobs of other shapes. No
                blob is changed then.
        """
        return load(self.blobs, weights, path)

    def named_blobs(self) -> list[tuple[str, str, list[npt.NDArray[np.float32]]]]:
        """Name, type and blobs of every layer, data layers too, as a snapshot has them: copies."""
        blobs = {
            id(step.layer): [blob.detach().cpu().numpy().copy() for blob in own]
            for step, own in self.steps
        }
        return [(layer.name, layer.type, blobs.get(id(layer), [])) for layer in self.layers]


def _sum(losses: list[Tensor]) -> Tensor:
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
