"""Compiled passes over spikes: past spikes seen through a basis, and populations run forward in time.

Both go from spike to spike, not from bin to bin: a bin without a spike costs one comparison.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from hidamari.inference._sums import IN_ORDER, OPTIONS

__all__ = ["run", "see"]

# Numba's generator of Poisson numbers counts references.
DRAWS: dict[str, Any] = {key: value for key, value in IN_ORDER.items() if key != "_nrt"}


@njit(**OPTIONS)
def see(counts, first, a, b, basis, out):
    """Add sum_i basis[i - 1, k] counts[t - i, n] to out[t - a, n K + k] for rows a <= t < b of a segment."""
    L, K = basis.shape
    for t in range(max(first, a - L), b - 1):
        for n in range(counts.shape[1]):
            count = counts[t, n]
            if count == 0.0:
                continue
            at = n * K
            for i in range(max(1, a - t), min(L, b - 1 - t) + 1):
                row = out[t + i - a]
                for k in range(K):
                    row[at + k] += count * basis[i - 1, k]


@njit(**DRAWS)
def run(eta, filters, ceiling, capped, rng, counts, rates):
    """Draw counts bin after bin from log expected counts eta (T, N), to which spikes add filters (N, L, N).

    Adds the expected counts to ``rates``; returns the bin in which one passed the ceiling, or -1. With
    ``capped`` it is held at the ceiling instead.
    """
    T, N = eta.shape
    L = filters.shape[1]
    for t in range(T):
        for n in range(N):
            level = eta[t, n]
            if level > ceiling:
                if not capped:
                    return t
                level = ceiling
            expected = math.exp(level)
            rates[t, n] += expected
            counts[t, n] = rng.poisson(expected)
        for n in range(N):
            count = counts[t, n]
            if count > 0.0:
                for i in range(min(L, T - 1 - t)):
                    for m in range(N):
                        eta[t + 1 + i, m] += count * filters[n, i, m]
    return np.int64(-1)
