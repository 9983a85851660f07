"""The forms of split: the few layers that replace one, and their initial weights.

    reorder (always)   X_concat = [X_split1, split2'], X_reorder = 1×1, back to X's channel order
    extension          split2' = X_split2_extension(X_split2), 1×1
    residual           split2' = X_split2 + X_split2_residual_post(X_split2_residual_pre(bottom))

A new form is a function from (base, split2, setting, rng) to the parts that follow X_split2,
the last one giving split2', and an entry in `FORMS`.

Source: notebook 001 ("prev split" is the extension form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.split import kernels
from caffesplit.split.kernels import Array
from caffesplit.split.plan import LayerPlan, layer_rng


@dataclass(frozen=True)
class Setting:
    """How a split starts: noise, the residual branch's start, multipliers of added layers."""

    noise: float = 0.01
    """Standard deviation of the noise on every 1×1 layer's start."""
    edge: tuple[float, float] = (-0.2, 2.0)
    """residual_pre starts as edge[0]·w everywhere plus edge[1]·w at the spatial centre."""
    new_lr_mult: float = 1.0
    new_decay_mult: float = 1.0

    def __post_init__(self) -> None:
        for name in ("noise", "new_lr_mult", "new_decay_mult"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise SplitError(f"{name.replace('_', '-')} {value}", "a number of 0 or more")
        if not np.isfinite(self.edge).all():
            raise SplitError(f"edge {self.edge}", "two finite numbers, as in -0.2,2")


@dataclass(frozen=True)
class Base:
    """The convolution to be split: its blobs are weight (N, C/G, *K) and perhaps bias (N,)."""

    name: str
    bottom: str
    top: str
    blobs: tuple[Array, ...]

    @property
    def has_bias(self) -> bool:
        return len(self.blobs) > 1


@dataclass(frozen=True)
class Part:
    """One layer of a split.

    `kind` says where its text comes from: `carried` is the base layer itself with fewer
    outputs, `convolution` a new layer of the base's geometry, `pointwise` a new 1×1 layer,
    `concat` and `sum` join blobs.
    """

    name: str
    kind: str
    bottoms: tuple[str, ...]
    top: str
    blobs: tuple[Array, ...] = ()

    @property
    def num_output(self) -> int:
        return len(self.blobs[0])


def parts(base: Base, plan: LayerPlan, setting: Setting, seed: int) -> tuple[Part, ...]:
    """The layers that replace `base`, in the order of the data; the last one has its top."""
    rng = layer_rng(seed, base.name, purpose="noise")
    split1 = _carried(base, f"{base.name}_split1", plan.fast)
    split2 = _carried(base, f"{base.name}_split2", plan.slow)
    branch = FORMS[plan.method](base, split2, setting, rng)
    concat = Part(
        f"{base.name}_concat", "concat", (split1.top, branch[-1].top), base.name + "_concat"
    )
    reorder = _pointwise(
        base,
        f"{base.name}_reorder",
        concat.top,
        kernels.restoring(plan.fast + plan.slow),
        setting,
        rng,
    )
    last = Part(reorder.name, reorder.kind, reorder.bottoms, base.top, reorder.blobs)
    return (split1, split2, *branch, concat, last)


def _extension(
    base: Base, split2: Part, setting: Setting, rng: np.random.Generator
) -> tuple[Part, ...]:
    matrix = kernels.identity(split2.num_output)
    return (_pointwise(base, f"{split2.name}_extension", split2.top, matrix, setting, rng),)


def _residual(
    base: Base, split2: Part, setting: Setting, rng: np.random.Generator
) -> tuple[Part, ...]:
    pre_blobs = (kernels.edge_preserving(split2.blobs[0], *setting.edge),)
    pre_name = f"{split2.name}_residual_pre"
    pre = Part(pre_name, "convolution", (base.bottom,), pre_name, _with_bias(base, pre_blobs))
    matrix = kernels.identity(split2.num_output)
    post = _pointwise(base, f"{split2.name}_residual_post", pre.top, matrix, setting, rng)
    sum_name = f"{split2.name}_residual_sum"
    return (pre, post, Part(sum_name, "sum", (split2.top, post.top), sum_name))


FORMS: dict[str, Callable[[Base, Part, Setting, np.random.Generator], tuple[Part, ...]]] = {
    "residual": _residual,
    "extension": _extension,
}


def _carried(base: Base, name: str, channels: tuple[int, ...]) -> Part:
    return Part(name, "carried", (base.bottom,), name, kernels.rows(base.blobs, channels))


def _pointwise(
    base: Base,
    name: str,
    bottom: str,
    matrix: kernels.Matrix,
    setting: Setting,
    rng: np.random.Generator,
) -> Part:
    extents = base.blobs[0].ndim - 2
    weight = kernels.pointwise(matrix, extents, setting.noise, rng)
    return Part(name, "pointwise", (bottom,), name, _with_bias(base, (weight,)))


def _with_bias(base: Base, blobs: tuple[Array, ...]) -> tuple[Array, ...]:
    """A zero bias where the base has one; without, the split could not fold back into it."""
    return (*blobs, np.zeros(len(blobs[0]), np.float32)) if base.has_bias else blobs
