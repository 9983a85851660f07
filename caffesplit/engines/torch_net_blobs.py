"""The blobs of a net's layers: filled, shared, loaded.

Sources: Net::AppendParam, CopyTrainedLayersFrom and ShareTrainedLayersWith in src/caffe/net.cpp
(Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffesplit.engines.torch_fillers import initial_blobs
from caffesplit.engines.torch_net_steps import Step
from caffesplit.errors import Location, NetError, WeightsError
from caffesplit.formats import schema
from caffesplit.net.blobs import Shape, fits
from caffesplit.net.graph import Layer


@dataclass(frozen=True)
class Parameter:
    """A blob of a net; of several that share their values, the one for all.

    Attributes:
        name: "conv1[0]", after the first layer that has it.
        tensor: float32; with a gradient if Caffe would compute its diff.
        lr_mult, decay_mult: what the solver's rate and weight decay are multiplied by.
    """

    name: str
    tensor: Tensor
    lr_mult: float
    decay_mult: float


@dataclass
class _Owned:
    """A blob while the net is set up; multipliers are None as long as no layer gives them."""

    layer: Layer
    index: int
    tensor: Tensor
    lr_mult: float | None
    decay_mult: float | None
    is_learned: bool

    def parameter(self) -> Parameter:
        if self.is_learned:
            self.tensor.requires_grad_()
        lr_mult, decay_mult = (
            1.0 if each is None else each for each in (self.lr_mult, self.decay_mult)
        )
        return Parameter(f"{self.layer.name}[{self.index}]", self.tensor, lr_mult, decay_mult)

    def seen(self, has_diff: bool, shape: Shape) -> Tensor:
        """The blob as one of its layers has it: in a shape of its own, and without a gradient
        where the layer's lr_mult is 0, whatever that of another is.
        """
        tensor = self.tensor if has_diff or not self.is_learned else self.tensor.detach()
        return tensor if tensor.shape == shape else tensor.view(shape)


Blobs = Mapping[str, Sequence[Tensor]]


def own_blobs(
    steps: Sequence[Step],
    shared: Blobs,
    generator: torch.Generator,
    device: torch.device,
    force_backward: bool,
) -> tuple[tuple[Parameter, ...], tuple[tuple[Tensor, ...], ...]]:
    """All blobs, shared ones once; and those of each step.

    Args:
        shared: blobs of another net, which layers of the same name take as theirs.
        generator: for initial values, which are made on the CPU.

    Raises:
        NetError: for blobs that cannot be shared as the net asks for.
    """
    every: list[_Owned] = []
    named: dict[str, _Owned] = {}
    of_steps = []
    for step in steps:
        owners = []
        is_fixed = step.layer.type == "BatchNorm" or step.layer.name in shared
        values = _values(step, shared, generator, device)
        for index, (value, spec) in enumerate(zip(values, _specs(step), strict=True)):
            owner = named.get(spec.name)
            if owner is None:
                owner = _Owned(step.layer, index, value, None, None, False)
                every.append(owner)
                if spec.name:
                    named[spec.name] = owner
            else:
                _expect_shareable(step.layer, tuple(value.shape), spec, owner)
            _merge(step.layer, spec, owner)
            has_diff = spec.lr_mult != 0 or force_backward
            owner.is_learned |= has_diff and not is_fixed
            owners.append((owner, has_diff))
        of_steps.append(owners)
    parameters = tuple(owned.parameter() for owned in every)
    return parameters, tuple(
        tuple(
            owner.seen(has_diff, shape)
            for (owner, has_diff), shape in zip(owners, step.blobs, strict=True)
        )
        for owners, step in zip(of_steps, steps, strict=True)
    )


def _values(
    step: Step, shared: Blobs, generator: torch.Generator, device: torch.device
) -> list[Tensor]:
    """New blobs, or those of the layer of the same name in another net."""
    if not step.blobs or step.layer.name not in shared:
        return [each.to(device) for each in initial_blobs(step.layer, step.blobs, generator)]
    values = list(shared[step.layer.name])
    found = [tuple(value.shape) for value in values]
    if found != list(step.blobs):
        raise NetError(
            f"layer {step.layer.name!r}: blobs {_listed(step.blobs)}",
            f"{_listed(found)}, as the net has them that is trained",
            "A layer that is tested shares the blobs of the one of its name that is trained.",
            step.layer.location,
        )
    return values


def _specs(step: Step) -> list[Any]:
    """A ParamSpec for each blob. A BatchNorm's statistics are not learned."""
    new = schema.message_class("ParamSpec")
    default = new(lr_mult=0) if step.layer.type == "BatchNorm" else new()
    given = list(step.layer.message.param)
    return given + [default] * (len(step.blobs) - len(given))


def _expect_shareable(layer: Layer, shape: Shape, spec: Any, owner: _Owned) -> None:
    owned = tuple(owner.tensor.shape)
    if spec.share_mode == spec.PERMISSIVE:
        fitting, expected = shape == owned or _count(shape) == _count(owned), "as many values"
    else:
        fitting, expected = shape == owned, "equal shapes"
    if not fitting:
        raise NetError(
            f"layer {layer.name!r}: shares {spec.name!r} as {shape}, "
            f"which layer {owner.layer.name!r} has as {owned}",
            expected,
            at=layer.location,
        )


def _merge(layer: Layer, spec: Any, owner: _Owned) -> None:
    """The multipliers of a shared blob stand at any of its layers, but not different ones."""
    for name in ("lr_mult", "decay_mult"):
        if not spec.HasField(name):
            continue
        given, known = getattr(spec, name), getattr(owner, name)
        if known is not None and given != known:
            raise NetError(
                f"layer {layer.name!r}: {name} {given:g} of the shared {spec.name!r}",
                f"{known:g}, as layer {owner.layer.name!r} has it",
                at=layer.location,
            )
        setattr(owner, name, given)


def load(
    targets: Mapping[str, Sequence[Tensor]], weights: Mapping[str, Any], path: str
) -> tuple[str, ...]:
    """Copy values by layer name; the names that no layer has, which Caffe ignores.

    Raises:
        WeightsError: if a layer has another number of blobs, or blobs of other shapes. No blob
            is changed then.
    """
    found = {name: weights[name] for name in weights if name in targets}
    least = _least_counts(targets)
    for name, blobs in found.items():
        _expect_loadable(name, targets[name], blobs, least[name], path)
    with torch.no_grad():
        for name, blobs in found.items():
            for target, blob in zip(targets[name], blobs, strict=False):
                target.copy_(torch.from_numpy(blob.astype("float32")).reshape(target.shape))
    return tuple(name for name in weights if name not in targets)


def _least_counts(targets: Blobs) -> dict[str, int]:
    """How many blobs of each layer a file must have: HDF5 leaves out those of earlier layers."""
    seen: set[int] = set()
    counts = {}
    for name, blobs in targets.items():
        own = [index for index, blob in enumerate(blobs) if blob.data_ptr() not in seen]
        counts[name] = own[-1] + 1 if own else 0
        seen |= {blob.data_ptr() for blob in blobs}
    return counts


def _expect_loadable(
    name: str, targets: Sequence[Tensor], blobs: Sequence[Any], least: int, path: str
) -> None:
    if not least <= len(blobs) <= len(targets):
        raise WeightsError(
            f"{len(blobs)} blobs",
            f"{len(targets)}, as layer {name!r} of the net has",
            ANEW,
            Location(path, layer=name),
        )
    for index, (target, blob) in enumerate(zip(targets, blobs, strict=False)):
        if not fits(blob.shape, tuple(target.shape)):
            raise WeightsError(
                f"a blob {blob.shape}",
                f"{tuple(target.shape)}, as layer {name!r} of the net has it",
                ANEW,
                Location(path, layer=name, blob=index),
            )


ANEW = "Give the layer another name in the net to learn it anew."


def _count(shape: Shape) -> int:
    return torch.Size(shape).numel()


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes)) or "none"
