"""Which kernels of a layer are fast, which slow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from caffesplit.errors import SplitError

SPECIFICATIONS = "half, mean, threshold:T, count:K, random, random:K, inverse:P"

Scores = npt.NDArray[np.float64]


def partition(
    specification: str, scores: Scores, rng: np.random.Generator, group: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The fast and the slow kernels, each in ascending channel order, none of them empty.

    `scores` (N,) is the TPM per kernel, NaN where undefined; undefined kernels are slow. Ties
    go to the lower channel. With `group` > 1 every group gives the same number of fast kernels,
    so that each part is again a legal grouped convolution; where the specification does not
    divide evenly (mean, threshold) the number per group is rounded.

    half           floor(N/2) fast                  (notebook 003)
    mean           TPM ≥ the layer's mean           (notebook 000)
    threshold:T    TPM ≥ T
    count:K        K fast
    random[:K]     floor(N/2), or K, drawn by `rng` (notebook 000's control)
    inverse:P      P with the roles swapped

    Raises:
        SplitError: for an unknown specification, or if a part would be empty.
    """
    kind, _, argument = specification.partition(":")
    if kind == "inverse" and not argument.startswith("inverse"):
        slow, fast = partition(argument, scores, rng, group)
        return fast, slow
    size = len(scores) // group
    keys = np.where(np.isnan(scores), -np.inf, scores)
    # Undefined kernels rank last and never count as fast.
    limit = int((~np.isnan(scores)).reshape(group, size).sum(axis=1).min())
    match kind:
        case "half" if not argument:
            fast_per_group = min(size // 2, limit)
        case "mean" if not argument:
            mean = float(np.nanmean(scores)) if limit else np.inf
            fast_per_group = min(_count_above(scores, mean, group), limit)
        case "threshold":
            fast_per_group = min(_count_above(scores, _number(argument), group), limit)
        case "count":
            fast_per_group = _share(argument, group)
            if fast_per_group > limit:
                raise SplitError(
                    f"{argument} fast kernels",
                    f"at most {limit * group}: only kernels that moved have a TPM",
                )
        case "random":
            keys = rng.permutation(len(scores)).astype(np.float64)
            fast_per_group = _share(argument, group) if argument else size // 2
        case _:
            raise SplitError(f"partition {specification!r}", f"one of {SPECIFICATIONS}")
    if not 0 < fast_per_group < size:
        raise SplitError(
            f"partition {specification!r} makes {fast_per_group} of {size} kernels"
            f"{' of each group' if group > 1 else ''} fast",
            "at least one fast and one slow kernel",
            "Choose another partition, or another window.",
        )
    is_fast = np.zeros(len(scores), dtype=bool)
    for start in range(0, len(scores), size):
        best_first = np.argsort(-keys[start : start + size], kind="stable")
        is_fast[start + best_first[:fast_per_group]] = True
    return tuple(np.flatnonzero(is_fast).tolist()), tuple(np.flatnonzero(~is_fast).tolist())


def _count_above(scores: Scores, level: float, group: int) -> int:
    return round(np.count_nonzero(scores >= level) / group)


def _number(argument: str) -> float:
    try:
        return float(argument)
    except ValueError:
        raise SplitError(
            f"partition 'threshold:{argument}'", "a number, as in threshold:0.5"
        ) from None


def _share(argument: str, group: int) -> int:
    """A count of kernels, given for the whole layer, per group."""
    if not argument.isdecimal() or int(argument) % group:
        expected = "a whole number of kernels"
        if group > 1:
            expected += f", the same for each of the {group} groups"
        raise SplitError(f"{argument!r} fast kernels", expected)
    return int(argument) // group
