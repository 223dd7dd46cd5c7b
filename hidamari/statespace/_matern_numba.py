"""Compiled Q(u) and the slopes of A(u) and Q(u), orders 0 to 2, for grids with many distinct gaps.

With g_i(s) = sqrt(q) e^-s p_i(s), the entries of Q are q int_0^u p_i p_j e^-2s ds, and a power integrates to

    int_0^u s^n e^-2s ds = e^-2u sum_k 2^k n! / (n + 1 + k)! u^(n + 1 + k),

all terms positive. Summed over the powers of p_i p_j they are one series in u, which starts with the power
2p + 1 - i - j, so that small variances keep their digits; up to order 2 its terms cancel by a factor of 3 at
most for u <= 2 (10 to 500 for orders 3 to 6, which are left to quadrature). Beyond, Q = P - A P A' loses no
more than that either.
"""

from fractions import Fraction
from functools import cache
from math import factorial

import numpy as np
from numba import njit

from hidamari.statespace._blocks import IN_ORDER, OPTIONS

__all__ = ["HIGHEST", "noise", "stretched"]

HIGHEST = 2  # order
_FORGOTTEN = 1e3  # e^-u is exactly 0 from u = 746 on: larger gaps are all the same
_SERIES_TO = 2.0
_TERMS = ((0.05, 10), (0.5, 18), (_SERIES_TO, 32))  # that leave less than 1e-17 up to such a u


@cache
def _coefficients(order: int, taylor: bytes) -> np.ndarray:
    """Series of Q without e^-2u and the leading power of u, highest term first, (32, d, d)."""
    d = order + 1
    last = np.frombuffer(taylor).reshape(d, d, d)[:, :, -1]  # p_i(s) = sum_k last[k, i] s^k
    p = [[Fraction(round(last[k, i] * factorial(k)), factorial(k)) for k in range(d)] for i in range(d)]
    q = Fraction(2 ** (2 * order + 1) * factorial(order) ** 2, factorial(2 * order))
    count = _TERMS[-1][1]
    out = np.zeros((count, d, d))
    for i in range(d):
        for j in range(d):
            powers = [Fraction(0)] * (2 * d)
            for k in range(d):
                for l in range(d):
                    powers[k + l] += p[i][k] * p[j][l]
            first = 2 * order + 1 - i - j
            for m in range(first, first + count):
                terms = (
                    powers[n] * Fraction(2 ** (m - 1 - n) * factorial(n), factorial(m))
                    for n in range(min(m, 2 * d))
                )
                out[count - 1 - (m - first), i, j] = float(q * sum(terms, Fraction(0)))
    return out


@cache
def _loops(d: int):
    """The loops for d states."""
    options = OPTIONS | IN_ORDER

    @njit(**options)
    def driven(u, e, T, c, P, bounds, counts, X, Q):
        """Q[s] by the series up to the last of the bounds, and by P - A P A' beyond."""
        n = len(c)
        for s in range(len(u)):
            x = u[s]
            if x <= bounds[-1]:
                b = 0
                while x > bounds[b]:
                    b += 1
                for i in range(d):
                    for j in range(i + 1):
                        w = 0.0
                        for k in range(n - counts[b], n):
                            w = w * x + c[k, i, j]
                        w *= e[s] * e[s]
                        for _ in range(2 * d - 1 - i - j):
                            w *= x
                        Q[s, i, j] = w
                        Q[s, j, i] = w
                continue
            for i in range(d):
                for j in range(d):
                    w = T[d - 1, i, j]
                    for k in range(d - 2, -1, -1):
                        w = w * x + T[k, i, j]
                    X[i, j] = w * e[s]
            for i in range(d):
                for j in range(i + 1):
                    w = P[i, j]
                    for k in range(d):
                        for l in range(d):
                            w -= X[i, k] * P[k, l] * X[j, l]
                    Q[s, i, j] = w
                    Q[s, j, i] = w

    @njit(**options)
    def slopes(u, F, q, A, dA, dQ):
        """dA = -u F A and dQ = -u g g' with g = sqrt(q) A[:, -1]."""
        for s in range(len(u)):
            x = -u[s]
            for i in range(d):
                for j in range(d):
                    w = 0.0
                    for k in range(d):
                        w += F[i, k] * A[s, k, j]
                    dA[s, i, j] = x * w
                    dQ[s, i, j] = x * q * A[s, i, d - 1] * A[s, j, d - 1]

    return driven, slopes


def noise(u: np.ndarray, taylor: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Return Q(u) for u >= 0, (S, d, d)."""
    d = len(taylor)
    u = np.minimum(u, _FORGOTTEN)
    Q = np.empty((len(u), d, d))
    bounds, counts = (np.array(a) for a in zip(*_TERMS))
    c = _coefficients(d - 1, taylor.tobytes())
    _loops(d)[0](u, np.exp(-u), taylor.copy(), c, P.copy(), bounds, counts, np.empty((d, d)), Q)
    return Q


def stretched(u: np.ndarray, F: np.ndarray, intensity: float, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of A(u) and Q(u) by the log of the lengthscale, both (S, d, d); A is A(u)."""
    dA, dQ = np.empty_like(A), np.empty_like(A)
    _loops(len(F))[1](np.minimum(u, _FORGOTTEN), F.copy(), intensity, A, dA, dQ)
    return dA, dQ
