"""Compiled sums behind the noise estimate: autocovariances of what a segmentation leaves."""

import numpy as np
from numba import njit

__all__ = ["residual_covariances"]


@njit(cache=True, nogil=True, error_model="numpy")
def residual_covariances(z, edges, out):
    """Fill out (lags + 1, d) with autocovariances of z (d, T) about its segments' means; NaN is left out.

    Each is the mean over the pairs that were observed, times 1 - lag / n, which makes complete rows give a
    positive definite sequence.
    """
    d, n = z.shape
    e = np.empty(n)
    for j in range(d):
        seen = 0
        for k in range(len(edges) - 1):
            total, count = 0.0, 0
            for t in range(edges[k], edges[k + 1]):
                if not np.isnan(z[j, t]):
                    total += z[j, t]
                    count += 1
            mean = total / count if count else 0.0
            seen += count
            for t in range(edges[k], edges[k + 1]):
                e[t] = z[j, t] - mean
        for lag in range(out.shape[0]):
            total, count = 0.0, 0
            for t in range(n - lag):
                v = e[t] * e[t + lag]
                if not np.isnan(v):
                    total += v
                    count += 1
            out[lag, j] = total / count * (1.0 - lag / n) if count else 0.0
