"""Compiled sums behind the noise estimate: autocovariances of what a segmentation leaves."""

import numpy as np
from numba import njit

__all__ = ["moments", "residual_covariances"]


_SUMS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}


@njit(cache=True, nogil=True, error_model="numpy")
def moments(x, mean, variance, count, work):
    """Fill mean, variance and count (d,) of what was observed of each column; 0 for none. work (2, d)."""
    n, d = x.shape
    first, total = work
    count[:] = 0
    first[:] = 0.0
    total[:] = 0.0
    # About the first entry, so that a large offset does not round the sum.
    for j in range(d):
        for t in range(n):
            if not np.isnan(x[t, j]):
                first[j] = x[t, j]
                break
    for t in range(n):
        for j in range(d):
            v = x[t, j] - first[j]
            seen = v == v
            total[j] += v if seen else 0.0
            count[j] += seen
    for j in range(d):
        mean[j] = first[j] + total[j] / max(count[j], 1)
    total[:] = 0.0
    for t in range(n):
        for j in range(d):
            v = x[t, j] - mean[j]
            total[j] += v * v if v == v else 0.0
    for j in range(d):
        variance[j] = total[j] / max(count[j], 1)


@njit(**_SUMS)
def _complete_sums(z, edges, lags, e, sums):
    """Fill e with z (n,) about its segments' means, sums with those of e[t] e[t + lag]; none is missing."""
    n = len(z)
    for k in range(len(edges) - 1):
        total = 0.0
        for t in range(edges[k], edges[k + 1]):
            total += z[t]
        mean = total / (edges[k + 1] - edges[k])
        for t in range(edges[k], edges[k + 1]):
            e[t] = z[t] - mean
    for lag in range(lags):
        total = 0.0
        for t in range(n - lag):
            total += e[t] * e[t + lag]
        sums[lag] = total


@njit(cache=True, nogil=True, error_model="numpy")
def residual_covariances(z, edges, complete, out):
    """Fill out (lags + 1, d) with autocovariances of z (d, T) about its segments' means; NaN is left out.

    Each is the mean over the pairs that were observed, times 1 - lag / n, which makes complete rows give a
    positive definite sequence. complete (d,) tells which units miss no entry.
    """
    d, n = z.shape
    e = np.empty(n)
    for j in range(d):
        if complete[j]:
            _complete_sums(z[j], edges, out.shape[0], e, out[:, j])
            for lag in range(out.shape[0]):
                out[lag, j] /= n  # 1 / (n - lag) times 1 - lag / n
            continue
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
