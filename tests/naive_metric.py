"""TPM, entropy and norms as method says them: loops over Python floats, no array operations."""

from __future__ import annotations

import math


def flat(kernel):
    """A nested list of numbers as one list of floats."""
    if isinstance(kernel, (list, tuple)):
        return [number for part in kernel for number in flat(part)]
    return [float(kernel)]


def distance(one, other):
    return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(flat(one), flat(other), strict=True)))


def kernel_tpm(states):
    """TPM of one kernel from its states in order; None where it never moved."""
    path = math.fsum(distance(states[i], states[i + 1]) for i in range(len(states) - 1))
    return None if path == 0 else distance(states[0], states[-1]) / path


def layer_tpm(kernels):
    """The mean over the kernels that have a TPM."""
    defined = [value for value in kernels if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def entropy(kernels, bins=10):
    """Nats of the histogram in equal bins over [0, 1], the last one closed."""
    counts = [0] * bins
    for value in kernels:
        if value is not None:
            counts[min(int(value * bins), bins - 1)] += 1
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts if n) if total else None


def norm(weights):
    return math.sqrt(math.fsum(value**2 for value in flat(weights)))
