"""Compiled loops over time for one chain with one read-out and scalar sites: plain covariance form.

Chains that no site couples separate, and each is filtered alone. The formulas are those of the joint form
with K = 1: with S = h P h', v = (j - J h m) / (1 + J S) and W = J / (1 + J S),

    m <- m + P h' v          P <- P - (P h') W (h P)          log_norm = closed form of one Gaussian integral
"""

import numpy as np
from numba import njit

__all__ = ["filter_chain", "smooth_chain"]

_options = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_options)
def _forward(A, Q, step, h, m0, P0, j, J, t0, t1, m, P, mean, var, log_norm, hPf, v, W, store):
    """Filter rows t0..t1 from the state (m, P) of row t0-1, in place; keep what a backward pass needs."""
    d = len(h)
    x = np.empty(d)
    X = np.empty((d, d))
    hP = np.empty(d)
    for t in range(t0, t1):
        if t == 0 or step[t] < 0:
            for i in range(d):
                m[i] = m0[i]
                for l in range(d):
                    P[i, l] = P0[i, l]
        else:
            s = step[t]
            for i in range(d):
                g = 0.0
                for l in range(d):
                    g += A[s, i, l] * m[l]
                x[i] = g
                for n in range(d):
                    g = 0.0
                    for l in range(d):
                        g += A[s, i, l] * P[l, n]
                    X[i, n] = g
            for i in range(d):
                m[i] = x[i]
                for n in range(i + 1):
                    g = Q[s, i, n]
                    for l in range(d):
                        g += X[i, l] * A[s, n, l]
                    P[i, n] = g
                    P[n, i] = g
        f = 0.0
        S = 0.0
        for i in range(d):
            g = 0.0
            for l in range(d):
                g += h[l] * P[l, i]
            hP[i] = g
            S += g * h[i]
            f += h[i] * m[i]
        Jt = J[t]
        inverse = 1.0 / (1.0 + S * Jt)
        e = j[t] - Jt * f
        vt = e * inverse
        Wt = Jt * inverse
        log_norm[t] = f * (j[t] - 0.5 * Jt * f) + 0.5 * (e * S * vt + np.log(inverse))
        mean[t] = f + S * vt
        var[t] = S * inverse
        for i in range(d):
            g = hP[i]
            m[i] += g * vt
            g *= Wt
            for n in range(i + 1):
                P[i, n] -= g * hP[n]
                P[n, i] = P[i, n]
        if store:
            o = t - t0
            v[o] = vt
            W[o] = Wt
            for i in range(d):
                hPf[o, i] = hP[i] * inverse


@njit(**_options)
def filter_chain(A, Q, step, h, m0, P0, j, J, mean, var, log_norm):
    """Filtered moments of f and log normalisers of all rows, into the last three arrays."""
    d = len(h)
    m = np.zeros(d)
    P = np.zeros((d, d))
    none = np.empty((0, d))
    nil = np.empty(0)
    _forward(A, Q, step, h, m0, P0, j, J, 0, len(step), m, P, mean, var, log_norm, none, nil, nil, False)


@njit(**_options)
def smooth_chain(A, Q, step, h, m0, P0, j, J, block, mean, var, log_norm):
    """Smoothed moments of f and log normalisers, into the last three arrays; keeps d + 2 numbers a row."""
    d = len(h)
    T = len(step)
    n_blocks = max((T + block - 1) // block, 1)
    size = min(block, T)
    m = np.zeros(d)
    P = np.zeros((d, d))
    kept_m = np.zeros((n_blocks, d))
    kept_P = np.zeros((n_blocks, d, d))
    hPf = np.empty((size, d))
    v = np.empty(size)
    W = np.empty(size)
    for n in range(n_blocks):
        kept_m[n] = m
        kept_P[n] = P
        t0, t1 = n * block, min((n + 1) * block, T)
        _forward(
            A, Q, step, h, m0, P0, j, J, t0, t1, m, P, mean, var, log_norm, hPf, v, W, n == n_blocks - 1
        )  # fmt: skip
    u = np.zeros(d)
    U = np.zeros((d, d))
    X = np.empty((d, d))
    g = np.empty(d)
    for n in range(n_blocks - 1, -1, -1):
        t0, t1 = n * block, min((n + 1) * block, T)
        if n < n_blocks - 1:
            m[:] = kept_m[n]
            P[:] = kept_P[n]
            _forward(A, Q, step, h, m0, P0, j, J, t0, t1, m, P, mean, var, log_norm, hPf, v, W, True)
        for t in range(t1 - 1, t0 - 1, -1):
            o = t - t0
            a = 0.0
            E = 0.0
            for i in range(d):
                a += hPf[o, i] * u[i]
                s = 0.0
                for l in range(d):
                    s += U[i, l] * hPf[o, l]
                g[i] = s
            for i in range(d):
                E += hPf[o, i] * g[i]
            mean[t] += a
            var[t] -= E
            if t == 0 or step[t] < 0:
                for i in range(d):
                    u[i] = 0.0
                    for l in range(d):
                        U[i, l] = 0.0
                continue
            Jt = J[t]
            a = v[o] - Jt * a
            E = W[o] + Jt * (Jt * E)  # J squared may leave the range of the format
            for i in range(d):
                u[i] += h[i] * a
                for l in range(i + 1):
                    # N = U - h'(J g)' - (J g) h + h'(J E J + W) h
                    U[i, l] += h[i] * h[l] * E - Jt * (h[i] * g[l] + g[i] * h[l])
                    U[l, i] = U[i, l]
            s = step[t]
            for i in range(d):
                w = 0.0
                for l in range(d):
                    w += A[s, l, i] * u[l]
                g[i] = w
                for q in range(d):
                    w = 0.0
                    for l in range(d):
                        w += A[s, l, i] * U[l, q]
                    X[i, q] = w
            for i in range(d):
                u[i] = g[i]
                for q in range(i + 1):
                    w = 0.0
                    for l in range(d):
                        w += X[i, l] * A[s, l, q]
                    U[i, q] = w
                    U[q, i] = w
