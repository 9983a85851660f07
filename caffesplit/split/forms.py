"""The forms of split: the few layers that replace one, and their initial weights.

    reorder (always)   X_concat = [X_split1, split2'], X_reorder = 1×1, back to X's channel order
    extension          split2' = X_split2_extension(X_split2), 1×1
    residual           split2' = X_split2 + X_split2_residual_post(X_split2_residual_pre(bottom))
    skip               split2' = X_split2 + X_split2_skip(bottom)

Between grouped layers all that is added is grouped too, so that it can fold back into one: there
X_split1_reorder and X_split2_reorder put the channels of their parts into X's places, and
X_reorder_sum adds them. 1×1 means an InnerProduct where X is one.

A new form is a function from (base, split2, setting, rng) to the parts from X_split2 on, the last
one giving split2', and an entry in `FORMS`.

Source: notebooks 001 ("prev split" is the extension form) and 002 (skip).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.split import kernels, skip
from caffesplit.split.geometry import Geometry
from caffesplit.split.kernels import Array, Matrix
from caffesplit.split.linear import Axis
from caffesplit.split.plan import LayerPlan, layer_rng

ACTIVATIONS = ("none", "relu")

LARGEST = 1e6
"""Of the numbers of a setting: far beyond sense, and weights stay finite in float32."""


@dataclass(frozen=True)
class Setting:
    """How a split starts: noise, the residual and skip branches, multipliers of added layers."""

    noise: float = 0.01
    """Standard deviation of the noise on every 1×1 layer's start."""
    edge: tuple[float, float] = (-0.2, 2.0)
    """residual_pre starts as edge[0]·w everywhere plus edge[1]·w at the spatial centre."""
    new_lr_mult: float = 1.0
    new_decay_mult: float = 1.0
    skip_stride: str = "sample"
    """What a skip does where the layer has a stride s: take a pixel of s, or their average."""
    activation: str = "none"
    """What stands between residual_pre and residual_post."""
    preserve: bool = False
    """Start exactly as the base: X_split2 gives up what the branch beside it adds."""

    def __post_init__(self) -> None:
        for name in ("noise", "new_lr_mult", "new_decay_mult"):
            value = getattr(self, name)
            if not 0 <= value <= LARGEST:
                raise SplitError(
                    f"{name.replace('_', '-')} {value}", f"a number from 0 to {LARGEST:g}"
                )
        if not all(abs(value) <= LARGEST for value in self.edge):
            raise SplitError(f"edge {self.edge}", f"two numbers up to {LARGEST:g}, as in -0.2,2")
        for name, known in (("skip_stride", skip.STRIDES), ("activation", ACTIVATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise SplitError(
                    f"{name.replace('_', '-')} {value!r}", f"one of {', '.join(known)}"
                )
        if self.preserve and self.activation != "none":
            raise SplitError(
                f"preserve with activation {self.activation}",
                "a branch that is linear: one that is not cannot be subtracted",
                "Leave out --preserve or --activation.",
            )

    @property
    def passing_noise(self) -> float:
        """The noise on 1×1 layers that X's own kernels pass through."""
        return 0.0 if self.preserve else self.noise


@dataclass(frozen=True)
class Base:
    """The layer to be split, with its blobs as Caffe stores them: weight and perhaps bias (N,)."""

    name: str
    bottom: str
    top: str
    blobs: tuple[Array, ...]
    geometry: Geometry
    bottom_sizes: tuple[int, ...] | None = None
    """The bottom's spatial extents in pixels, where known."""

    @property
    def inputs(self) -> int:
        """The number of input channels C."""
        return int(self.geometry.turned(self.blobs[0]).shape[1]) * self.geometry.group


@dataclass(frozen=True)
class Part:
    """One layer of a split, with its blobs as Caffe stores them.

    `kind` says what it is: `carried` the base layer itself with fewer outputs, `parallel` a new
    layer of the base's geometry on its bottom, `skip` one on its bottom whose weights stay,
    `pointwise` a new 1×1 layer; `concat`, `sum` and `relu` have no weights.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    top: str
    num_output: int
    blobs: tuple[Array, ...] = ()
    axes: tuple[Axis, ...] = ()
    """The geometry of a skip or 1×1 convolution."""


def parts(base: Base, plan: LayerPlan, setting: Setting, seed: int) -> tuple[Part, ...]:
    """The layers that replace `base`, in the order of the data; the last one has its top.

    Raises:
        SplitError: if the form cannot be had with the layer's geometry.
    """
    rng = layer_rng(seed, base.name, purpose="noise")
    split1 = _carried(base, f"{base.name}_split1", plan.fast)
    split2 = _carried(base, f"{base.name}_split2", plan.slow)
    slow = FORMS[plan.method](base, split2, setting, rng)
    join = _reordered if base.geometry.group == 1 else _reordered_by_group
    made = (split1, *slow, *join(base, plan, (split1, slow[-1]), setting.passing_noise, rng))
    return (*made[:-1], replace(made[-1], top=base.top))


def _extension(
    base: Base, split2: Part, setting: Setting, rng: np.random.Generator
) -> tuple[Part, ...]:
    extension = _identity(base, "extension", split2, split2.top, setting.passing_noise, rng)
    return (split2, extension)


def _residual(
    base: Base, split2: Part, setting: Setting, rng: np.random.Generator
) -> tuple[Part, ...]:
    geometry = base.geometry
    name = f"{split2.name}_residual_pre"
    weight = kernels.edge_preserving(split2.blobs[0], *setting.edge)
    blobs = _with_bias(base, weight, split2.num_output)
    pre = Part(name, "parallel", (base.bottom,), name, split2.num_output, blobs)
    post = _identity(base, "residual_post", split2, pre.top, setting.noise, rng)
    between: tuple[Part, ...] = ()
    if setting.activation == "relu":
        relu = f"{split2.name}_residual_relu"
        between = (Part(relu, "relu", (pre.top,), pre.top, pre.num_output),)
    if setting.preserve:
        after, weight = post.blobs[0], geometry.turned(pre.blobs[0])
        split2 = _without(
            base,
            split2,
            lambda columns: kernels.composed(after, weight[:, columns], geometry.group),
        )
    return (split2, pre, *between, post, _sum(f"{split2.name}_residual_sum", split2, post))


def _skip(base: Base, split2: Part, setting: Setting, rng: np.random.Generator) -> tuple[Part, ...]:
    axes, taps = skip.skip_axes(base.geometry, setting.skip_stride, base.bottom_sizes)
    weight = skip.kernel(split2.num_output, base.inputs, base.geometry, axes, taps)
    name = f"{split2.name}_skip"
    part = Part(name, "skip", (base.bottom,), name, split2.num_output, (weight,), axes)
    if setting.preserve:
        added = skip.within(weight, axes, base.geometry)
        split2 = _without(base, split2, lambda columns: added[:, columns].astype(np.float64))
    return (split2, part, _sum(f"{name}_sum", split2, part))


FORMS: dict[str, Callable[[Base, Part, Setting, np.random.Generator], tuple[Part, ...]]] = {
    "residual": _residual,
    "extension": _extension,
    "skip": _skip,
}


def _reordered(
    base: Base, plan: LayerPlan, ends: tuple[Part, Part], noise: float, rng: np.random.Generator
) -> tuple[Part, ...]:
    name = f"{base.name}_concat"
    concat = Part(name, "concat", tuple(end.top for end in ends), name, plan.num_output)
    matrix = kernels.restoring(plan.fast + plan.slow, plan.num_output)
    return (concat, _pointwise(base, f"{base.name}_reorder", name, matrix, noise, rng))


def _reordered_by_group(
    base: Base, plan: LayerPlan, ends: tuple[Part, Part], noise: float, rng: np.random.Generator
) -> tuple[Part, ...]:
    reorders = []
    for number, (end, channels) in enumerate(zip(ends, (plan.fast, plan.slow), strict=True), 1):
        matrix = kernels.restoring(channels, plan.num_output, base.geometry.group)
        name = f"{base.name}_split{number}_reorder"
        reorders.append(_pointwise(base, name, end.top, matrix, noise, rng))
    return (*reorders, _sum(f"{base.name}_reorder_sum", *reorders))


def _carried(base: Base, name: str, channels: tuple[int, ...]) -> Part:
    blobs = kernels.rows(base.blobs, channels, base.geometry.kernel_axis)
    return Part(name, "carried", (base.bottom,), name, len(channels), blobs)


def _identity(
    base: Base, suffix: str, split2: Part, bottom: str, noise: float, rng: np.random.Generator
) -> Part:
    matrix = kernels.identity(split2.num_output, split2.num_output, base.geometry.group)
    return _pointwise(base, f"{split2.name}_{suffix}", bottom, matrix, noise, rng)


def _pointwise(
    base: Base, name: str, bottom: str, matrix: Matrix, noise: float, rng: np.random.Generator
) -> Part:
    extents = len(base.geometry.axes)
    blobs = _with_bias(base, kernels.pointwise(matrix, extents, noise, rng), len(matrix))
    return Part(name, "pointwise", (bottom,), name, len(matrix), blobs, (Axis(),) * extents)


def _sum(name: str, *terms: Part) -> Part:
    return Part(name, "sum", tuple(term.top for term in terms), name, terms[0].num_output)


def _without(base: Base, split2: Part, added: Callable[[slice], Matrix]) -> Part:
    """X_split2 less the kernel of the branch beside it: together they are X's."""
    weight, *bias = split2.blobs
    turned = base.geometry.turned
    return replace(split2, blobs=(turned(kernels.without(turned(weight), added)), *bias))


def _with_bias(base: Base, weight: Array, outputs: int) -> tuple[Array, ...]:
    """A zero bias where the base has one; without, the split could not fold back into it."""
    bias = (np.zeros(outputs, np.float32),) if base.geometry.bias_term else ()
    return (weight, *bias)
