"""Compiled draws: from the prior, and the linear solve that turns them into draws from a posterior."""

import numpy as np
from numba import njit

from hidamari.statespace._blocks import options
from hidamari.statespace._numba import forward

__all__ = ["draw_prior", "factor", "means_joint"]


@njit(**options)
def factor(M, L):
    """Lower-triangular L with L L' = M for a positive semi-definite M; zero pivots give zero columns."""
    n = M.shape[0]
    for c in range(n):
        for i in range(c):
            L[i, c] = 0.0
        pivot = M[c, c]
        for k in range(c):
            pivot -= L[c, k] * L[c, k]
        # what is left of the pivot is rounding once it is below eps times the diagonal entry itself
        if pivot > 4e-16 * M[c, c]:
            root = np.sqrt(pivot)
            L[c, c] = root
            for i in range(c + 1, n):
                s = M[i, c]
                for k in range(c):
                    s -= L[i, k] * L[c, k]
                L[i, c] = s / root
        else:
            for i in range(c, n):
                L[i, c] = 0.0


@njit(**options)
def means_joint(A, Q, step, H, m0, P0, J, rhs, out):
    """Sigma rhs for n right-hand sides (n, T, K), Sigma the posterior covariance of f over all rows.

    The covariances are filtered once for all of them. Keeps K (D + 2 K) numbers a row.
    """
    C, k, d = H.shape
    D, K = C * d, C * k
    n, T = rhs.shape[0], len(step)
    m = np.zeros(D)
    P = np.zeros((D, D))
    HP = np.empty((T, K, D))
    HPf = np.empty((T, K, D))
    X = np.empty((T, K, K))
    W = np.empty((T, K, K))
    v = np.empty((T, K))
    cov = np.empty((T, K, K))
    log_norm = np.empty(T)
    zero = np.zeros((T, K))
    none = np.zeros((C, d))
    mean = np.zeros((T, K))
    none_m = np.empty((0, D))
    none_P = np.empty((0, D, D))
    forward(
        A,
        Q,
        step,
        H,
        none,
        P0,
        zero,
        J,
        0,
        T,
        m,
        P,
        mean,
        cov,
        log_norm,
        HP,
        X,
        HPf,
        v,
        W,
        True,
        none_m,
        none_P,
        False,
    )
    x = np.zeros(D)
    e = np.zeros(K)
    for q in range(n):
        m[:] = 0.0
        for t in range(T):
            if t == 0 or step[t] < 0:
                m[:] = 0.0
            else:
                s = step[t]
                for c in range(C):
                    for i in range(d):
                        g = 0.0
                        for l in range(d):
                            g += A[s, c, i, l] * m[c * d + l]
                        x[c * d + i] = g
                m[:] = x
            for c in range(C):
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * m[c * d + i]
                    out[q, t, c * k + a] = g
            for a in range(K):
                g = rhs[q, t, a]
                for b in range(K):
                    g -= J[t, a, b] * out[q, t, b]
                e[a] = g
            for a in range(K):
                g = 0.0
                for b in range(K):
                    g += X[t, b, a] * e[b]
                v[t, a] = g
                for i in range(D):
                    m[i] += HP[t, a, i] * g
            for c in range(C):
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * m[c * d + i]
                    out[q, t, c * k + a] = g
        m[:] = 0.0
        for t in range(T - 1, -1, -1):
            for a in range(K):
                g = 0.0
                for i in range(D):
                    g += HPf[t, a, i] * m[i]
                e[a] = g
                out[q, t, a] += g
            for c in range(C):
                for a in range(k):
                    g = v[t, c * k + a]
                    for b in range(K):
                        g -= J[t, c * k + a, b] * e[b]
                    for i in range(d):
                        m[c * d + i] += H[c, a, i] * g
            if t == 0 or step[t] < 0:
                m[:] = 0.0
            else:
                s = step[t]
                for c in range(C):
                    for i in range(d):
                        g = 0.0
                        for l in range(d):
                            g += A[s, c, l, i] * m[c * d + l]
                        x[c * d + i] = g
                m[:] = x


@njit(**options)
def draw_prior(A, G, step, H, m0, L0, noise, out):
    """Draws of f (n, T, K) from the prior; noise (n, T, C d) standard normal, G and L0 factors of Q and P."""
    C, k, d = H.shape
    n, T = noise.shape[0], len(step)
    x = np.zeros((C, d))
    y = np.zeros(d)
    for q in range(n):
        for t in range(T):
            first = t == 0 or step[t] < 0
            s = 0 if first else step[t]
            for c in range(C):
                for i in range(d):
                    g = m0[c, i] if first else 0.0
                    for l in range(d):
                        e = noise[q, t, c * d + l]
                        g += L0[c, i, l] * e if first else A[s, c, i, l] * x[c, l] + G[s, c, i, l] * e
                    y[i] = g
                for i in range(d):
                    x[c, i] = y[i]
                for a in range(k):
                    g = 0.0
                    for i in range(d):
                        g += H[c, a, i] * x[c, i]
                    out[q, t, c * k + a] = g
