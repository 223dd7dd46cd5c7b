"""Compiled loops over time for one chain with one read-out and scalar sites: plain covariance form.

Chains that no site couples separate, and each is filtered alone. The formulas are those of the joint form
with K = 1: with S = h P h', v = (j - J h m) / (1 + J S) and W = J / (1 + J S),

    m <- m + P h' v          P <- P - (P h') W (h P)          log_norm = closed form of one Gaussian integral

and backward, with (u, U) carried down from the next row, g = U P_f h' and E = h P_f g,

    mean = h m_f + h P_f u               var = h P_f h' - E
    r = u + h' (v - J h P_f u)           N = U - h' J g' - g J h + h' (J E J + W) h

whose (r, N) give the derivatives of the log evidence as in ``_adjoint``.
"""

from functools import lru_cache

import numpy as np
from numba import njit

from hidamari.statespace._blocks import IN_ORDER, OPTIONS

__all__ = ["filter_chain", "smooth_chain"]

_UNROLLED = 8  # up to so many the compiler knows the number of states, and unrolls: 1.5 to 2 times as fast


@lru_cache
def _loops(states: int):
    """The loops for chains of so many states, or of any number for 0."""

    @njit(**(OPTIONS | IN_ORDER))
    def forward(A, Q, step, h, m0, P0, j, J, m, P, mean, var, log_norm, hPf, v, W, past_m, past_P, X, x, hP):
        """Filter rows from the state (m, P) of the row before; fill hPf, v, W and the past if as long."""
        d = states if states else len(h)
        store, past = len(v) == len(step), len(past_m) == len(step)
        for t in range(len(step)):
            s = step[t]
            if past:
                for i in range(d):
                    past_m[t, i] = m[i]
                    for n in range(d):
                        past_P[t, i, n] = P[i, n]
            if s < 0:
                for i in range(d):
                    m[i] = m0[i]
                    for n in range(d):
                        P[i, n] = P0[i, n]
            else:
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
                    w = P[i, n] - g * hP[n]
                    P[i, n] = w
                    P[n, i] = w
            if store:
                v[t] = vt
                W[t] = Wt
                for i in range(d):
                    hPf[t, i] = hP[i] * inverse

    @njit(**(OPTIONS | IN_ORDER))
    def backward(
        A, step, h, J, hPf, v, W, past_m, past_P, u, U, mean, var, X, g, r, climb, dA, dQ, dm, dP
    ):  # fmt: skip
        """Turn the filtered moments of f of rows into smoothed ones, last row first; carry (u, U) down.

        With ``climb`` the rows add their share to dA, dQ, dm and dP.
        """
        d = states if states else len(h)
        for t in range(len(step) - 1, -1, -1):
            a = 0.0
            E = 0.0
            for i in range(d):
                a += hPf[t, i] * u[i]
                s = 0.0
                for l in range(d):
                    s += U[i, l] * hPf[t, l]
                g[i] = s
                E += hPf[t, i] * s
            mean[t] += a
            var[t] -= E
            Jt = J[t]
            a = v[t] - Jt * a
            E = W[t] + Jt * (Jt * E)  # J squared may leave the range of the format
            for i in range(d):
                u[i] += h[i] * a
                for l in range(i + 1):
                    w = U[i, l] + (h[i] * h[l] * E - Jt * (h[i] * g[l] + g[i] * h[l]))
                    U[i, l] = w
                    U[l, i] = w
            o = step[t]
            if climb:
                for i in range(d):
                    r[i] = u[i]
                    if o < 0:
                        dm[i] += u[i]
                    for l in range(d):
                        s = 0.5 * (u[i] * u[l] - U[i, l])
                        if o < 0:
                            dP[i, l] += s
                        else:
                            dQ[o, i, l] += s
            if o < 0:
                for i in range(d):
                    u[i] = 0.0
                    for l in range(d):
                        U[i, l] = 0.0
                continue
            for i in range(d):
                s = 0.0
                for l in range(d):
                    s += A[o, l, i] * u[l]
                g[i] = s
                for n in range(d):
                    s = 0.0
                    for l in range(d):
                        s += A[o, l, i] * U[l, n]
                    X[i, n] = s
            for i in range(d):
                u[i] = g[i]
                for n in range(i + 1):
                    s = 0.0
                    for l in range(d):
                        s += X[i, l] * A[o, l, n]
                    U[i, n] = s
                    U[n, i] = s
            if climb:
                for l in range(d):
                    s = past_m[t, l]
                    for n in range(d):
                        s += past_P[t, l, n] * u[n]
                    for i in range(d):
                        w = r[i] * s
                        for n in range(d):
                            w -= X[n, i] * past_P[t, l, n]
                        dA[o, i, l] += w

    return forward, backward


def filter_chain(A, Q, step, h, m0, P0, j, J, mean, var, log_norm) -> None:
    """Filtered moments of f and log normalisers of all rows, into the last three arrays."""
    d = len(h)
    forward, _ = _loops(d if d <= _UNROLLED else 0)
    room = np.empty((d, d)), np.empty(d), np.empty(d)
    none = np.empty((0, d)), np.empty(0), np.empty(0), np.empty((0, d)), np.empty((0, d, d))
    forward(A, Q, step, h, m0, P0, j, J, np.zeros(d), np.zeros((d, d)), mean, var, log_norm, *none, *room)


def smooth_chain(A, Q, step, h, m0, P0, j, J, block, climb, mean, var, log_norm) -> tuple:
    """Smoothed moments of f and log normalisers of all rows, into the last three arrays.

    Returns the derivatives of the log evidence by A, Q, m and P; without ``climb`` they are left at zero.
    """
    d, T = len(h), len(step)
    forward, backward = _loops(d if d <= _UNROLLED else 0)
    slope = tuple(np.zeros(a.shape if climb else (1,) * a.ndim) for a in (A, Q, m0, P0))
    m, P, u, U = np.zeros(d), np.zeros((d, d)), np.zeros(d), np.zeros((d, d))
    X, x, hP = np.empty((d, d)), np.empty(d), np.empty(d)
    size = min(block, T)
    past = size if climb else 0
    kept = np.empty((size, d)), np.empty(size), np.empty(size), np.empty((past, d)), np.empty((past, d, d))

    def ahead(rows: slice, n: int) -> None:
        model = (A, Q, step[rows], h, m0, P0, j[rows], J[rows], m, P)
        everything: list = [*model, mean[rows], var[rows], log_norm[rows], *(a[:n] for a in kept), X, x, hP]
        forward(*everything)

    runs = [slice(t, min(t + block, T)) for t in range(0, T, block)]
    before = []
    for rows in runs[:-1]:
        before.append((m.copy(), P.copy()))
        ahead(rows, 0)
    for rows in runs[::-1]:
        n = rows.stop - rows.start
        if rows.stop < T:
            m[:], P[:] = before.pop()
        ahead(rows, n)
        site = (A, step[rows], h, J[rows], *(a[:n] for a in kept))
        everything: list = [*site, u, U, mean[rows], var[rows], X, x, hP, climb, *slope]
        backward(*everything)
    return slope
