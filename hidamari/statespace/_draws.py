"""Compiled loops behind joint draws: factors, draws from the prior, and means for given right-hand sides."""

import numpy as np
from numba import njit

from hidamari.statespace._blocks import OPTIONS, carry, spread, zeros
from hidamari.statespace._numba import forward, kept_rows, scratch, state
from hidamari.statespace.types import Sites, StateSpace

__all__ = ["draw_prior", "factor", "factors", "gains", "means"]


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _factors(M, L):
    """Factor each of the matrices (n, d, d)."""
    for t in range(M.shape[0]):
        factor(M[t], L[t])


def factors(M: np.ndarray) -> np.ndarray:
    """Lower-triangular L with L L' = M, for (..., d, d) positive semi-definite M."""
    L = np.empty_like(M)
    d = M.shape[-1]
    _factors(M.reshape(-1, d, d), L.reshape(-1, d, d))
    return L


@njit(**OPTIONS)
def _draw_prior(A, G, step, H, m0, L0, noise, x, y, out):
    """Write one draw of f into ``out``; x and y are scratch."""
    C, k, d = H.shape
    for t in range(len(step)):
        s = step[t]
        for c in range(C):
            for i in range(d):
                g = m0[c, i] if s < 0 else 0.0
                for l in range(d):
                    e = noise[t, c * d + l]
                    g += L0[c, i, l] * e if s < 0 else A[s, c, i, l] * x[c, l] + G[s, c, i, l] * e
                y[i] = g
            for i in range(d):
                x[c, i] = y[i]
            for a in range(k):
                g = 0.0
                for i in range(d):
                    g += H[c, a, i] * x[c, i]
                out[t, c * k + a] = g


def draw_prior(ss: StateSpace, G: np.ndarray, L: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """One draw of f (T, K) from the prior; noise (T, C d) standard normal, G and L factors of Q and P."""
    C, k, d = ss.H.shape
    out = np.empty((len(noise), C * k))
    _draw_prior(ss.A, G, ss.step, ss.H, ss.m, L, noise, np.empty((C, d)), np.empty(d), out)
    return out


def gains(ss: StateSpace, J: np.ndarray) -> np.ndarray:
    """H P_f of every row (T, K, D), padded: all that :func:`means` needs of the covariances."""
    T, K = J.shape[:2]
    D = ss.m.size
    m, P = state(D)
    HPf = zeros(T, K, D)
    size = min(T, 1024)
    _, v, W = kept_rows(size, D, K)
    unused = np.zeros((size, K)), np.empty((size, K, K)), np.empty(size)
    zero, none = np.zeros((size, K)), (zeros(0, D), zeros(0, D, D))
    room = (*scratch(D), np.zeros(K, np.int64))
    for t in range(0, T, size):
        n = min(size, T - t)
        rows = slice(t, t + n)
        sites = Sites(zero[:n], J[rows])
        model = (ss.A, ss.Q, ss.step[rows], ss.m, ss.P, *sites, m, P)
        everything: list = [*model, *(a[:n] for a in unused), HPf[rows], v[:n], W[:n], *none, *room]
        forward(*everything)
    return HPf


@njit(**OPTIONS)
def _means(A, step, J, HPf, rhs, out, m, x, e, wide_A):
    """Sigma rhs (T, K); the arrays after ``out`` are scratch."""
    T, K = rhs.shape
    C, d = A.shape[1], A.shape[2]
    D = C * d
    at = -1
    for t in range(T):
        g = step[t]
        if g < 0:
            for a in range(D):
                m[a] = 0.0
        else:
            if g != at:
                spread(A[g], False, wide_A)
                at = g
            carry(wide_A, m, C, d, x)
        for a in range(K):
            s = rhs[t, a]
            for b in range(K):
                s -= J[t, a, b] * m[b]
            e[a] = s
        for a in range(K):
            s = e[a]
            for i in range(D):
                m[i] += HPf[t, a, i] * s
        for a in range(K):
            out[t, a] = m[a]
    for a in range(D):
        m[a] = 0.0
    at = -1
    for t in range(T - 1, -1, -1):
        for a in range(K):
            s = 0.0
            for i in range(D):
                s += HPf[t, a, i] * m[i]
            out[t, a] += s
        for a in range(K):
            s = rhs[t, a]
            for b in range(K):
                s -= J[t, a, b] * out[t, b]
            m[a] += s
        g = step[t]
        if g < 0:
            for a in range(D):
                m[a] = 0.0
        else:
            if g != at:
                spread(A[g], True, wide_A)
                at = g
            carry(wide_A, m, C, d, x)


def means(ss: StateSpace, J: np.ndarray, HPf: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Sigma rhs (T, K), Sigma the posterior covariance of f over all rows, for a prior with zero mean.

    Forward, e = rhs - J f and m <- m + P_f H' e; backward, r = u + H' (rhs - J f_smoothed).
    """
    out = np.empty_like(rhs)
    D = ss.m.size
    _means(ss.A, ss.step, J, HPf, rhs, out, np.zeros(D), np.zeros(D), np.zeros(D), zeros(D, D))
    return out
