"""Compiled loops of autoregressions with missing values.

Row t predicts y_t from the k = order[t] values before it, c[t] + sum_i w[k, i] y_{t-1-i}, with noise
variance v[t] (k = p after the start); order[t] < 0 says that row t is given and has no factor.
"""

import math

import numpy as np
from numba import njit

from hidamari.inference._sums import OPTIONS

__all__ = ["band", "factor_band", "filter_gaps", "inverse_in_band", "pair_moments"]


@njit(**OPTIONS)
def filter_gaps(y, missing, order, w, v, c, noise, x, mean, var, index, P, Ph, h):
    """Predictive moments of each row, and the log-likelihood; x becomes the filtered values.

    The covariance of the last p values lives on the missing ones among them alone: P, at rows `index`. With
    noise of observation all of them are unknown; mean and var are then those of the value without it.
    """
    p = w.shape[1]
    m = 0
    total = 0.0
    for t in range(len(y)):
        k = order[t]
        gone = 0
        while gone < m and index[gone] < t - p:
            gone += 1
        if gone:
            m -= gone
            for i in range(m):
                index[i] = index[i + gone]
                for j in range(m):
                    P[i, j] = P[i + gone, j + gone]
        if k < 0:
            x[t], mean[t], var[t] = y[t], y[t], 0.0
            continue
        predicted = c[t]
        for i in range(k):
            predicted += w[k, i] * x[t - 1 - i]
        for i in range(m):
            lag = t - index[i]
            h[i] = w[k, lag - 1] if lag <= k else 0.0
        spread = v[t]
        for i in range(m):
            g = 0.0
            for j in range(m):
                g += P[i, j] * h[j]
            Ph[i] = g
            spread += h[i] * g
        mean[t], var[t] = predicted, spread
        x[t] = predicted if missing[t] or noise > 0.0 else y[t]
        if missing[t] or noise > 0.0:
            for i in range(m):
                P[i, m] = P[m, i] = Ph[i]
            P[m, m] = Ph[m] = spread
            index[m] = t
            m += 1
        if missing[t]:
            continue
        spread += noise
        error = y[t] - predicted
        total -= 0.5 * (math.log(2.0 * math.pi * spread) + error * error / spread)
        for i in range(m):
            x[index[i]] += Ph[i] * error / spread
            for j in range(m):
                P[i, j] -= Ph[i] * Ph[j] / spread
    return total


@njit(**OPTIONS)
def _coefficient(w, k, back):
    """a_back of the error of a row of order k: 1, -w_1, ..., -w_k, then 0."""
    if back == 0:
        return 1.0
    return -w[k, back - 1] if back <= k else 0.0


@njit(**OPTIONS)
def band(z, index, order, w, v, c, A, b):
    """Precision of the missing values, in rows A[i, i - j], its linear term b, and sum e^2 / v, sum log v.

    z holds zeros at the missing rows, e_t = a_t' z - c_t.
    """
    p = w.shape[1]
    squares, logs = 0.0, 0.0
    first = 0
    for t in range(len(z)):
        k = order[t]
        if k < 0:
            continue
        e = z[t] - c[t]
        for i in range(k):
            e -= w[k, i] * z[t - 1 - i]
        squares += e * e / v[t]
        logs += math.log(v[t])
        while first < len(index) and index[first] < t - p:
            first += 1
        at = first
        while at < len(index) and index[at] <= t:
            one = _coefficient(w, k, t - index[at]) / v[t]
            b[at] += one * e
            for other in range(first, at + 1):
                A[at, at - other] += one * _coefficient(w, k, t - index[other])
            at += 1
    return squares, logs


@njit(**OPTIONS)
def factor_band(A, b):
    """Factor A = L L' in place, solve A x = b into b; log |A|, NaN if A is not positive definite."""
    M, width = A.shape
    log_det = 0.0
    for i in range(M):
        for d in range(min(i, width - 1), -1, -1):
            j = i - d
            g = A[i, d]
            for l in range(max(i - width + 1, j - width + 1, 0), j):
                g -= A[i, i - l] * A[j, j - l]
            if d == 0:
                if g <= 0.0:
                    return np.nan
                A[i, 0] = math.sqrt(g)
                log_det += 2.0 * math.log(A[i, 0])
            else:
                A[i, d] = g / A[j, 0]
        for d in range(1, min(i, width - 1) + 1):
            b[i] -= A[i, d] * b[i - d]
        b[i] /= A[i, 0]
    for i in range(M - 1, -1, -1):
        for d in range(1, min(M - 1 - i, width - 1) + 1):
            b[i] -= A[i + d, d] * b[i + d]
        b[i] /= A[i, 0]
    return log_det


@njit(**OPTIONS)
def inverse_in_band(L, Z):
    """Entries Z[i, i - j] of (L L')^-1 within the band of L (Takahashi's recursion, from the last column)."""
    M, width = L.shape
    for j in range(M - 1, -1, -1):
        reach = min(M - 1 - j, width - 1)
        for i in range(j + reach, j - 1, -1):
            g = 1.0 / L[j, 0] if i == j else 0.0
            for d in range(1, reach + 1):
                l = j + d
                g -= L[l, d] * (Z[i, i - l] if i >= l else Z[l, l - i])
            Z[i, i - j] = g / L[j, 0]


@njit(**OPTIONS)
def pair_moments(index, Z, p, runs, ends, out):
    """Add to out[i, j], over the rows t >= p of some runs, the covariances of y_{t-i} and y_{t-j}.

    A pair d rows apart adds one number to out[i, i + d] for i in a range: first its ends, then running sums.
    """
    for a in range(len(index)):
        for d in range(min(a, Z.shape[1] - 1) + 1):
            old = index[a - d]
            if index[a] - old > p:
                break
            for r in range(len(runs)):
                first = max(index[a], p, runs[r, 0])
                last = min(old + p, runs[r, 1] - 1)
                if first <= last:
                    ends[index[a] - old, first - index[a]] += Z[a, d]
                    ends[index[a] - old, last - index[a] + 1] -= Z[a, d]
    for apart in range(p + 1):
        total = 0.0
        for i in range(p + 1 - apart):
            total += ends[apart, i]
            out[i, i + apart] += total
            if apart:
                out[i + apart, i] += total
