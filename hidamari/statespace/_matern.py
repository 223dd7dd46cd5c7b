"""Formulas of the Matern process of order p (smoothness p + 1/2) in scaled states, with unit variance.

The state is x_i = f^(i) / lam^i, i = 0..p, with lam = sqrt(2p + 1) / lengthscale, in the time u = lam dt. It
obeys dx = (N - I) x du + e_p dW, where N - I is the companion matrix of (s + 1)^(p + 1), so N is nilpotent
with whole-number entries and every function of u below is e^-u times a polynomial:

    A(u)  = e^-u sum_k u^k N^k / k!
    Q(u)  = int_0^u g(s) g(s)' ds,    g(s) = sqrt(q) e^-s sum_k s^k N^k e_p / k!
    P_ij  = (-1)^((i-j)/2) m_((i+j)/2) for even i + j, else 0

Nothing depends on the lengthscale but u, and P is well conditioned (64 at order 5).
"""

from functools import cache
from math import comb, factorial

import numpy as np

__all__ = [
    "MAX_ORDER",
    "correlation",
    "generator",
    "intensity",
    "noise",
    "stationary",
    "stretched",
    "transition",
]

MAX_ORDER = 6

_FORGOTTEN = 1e3  # e^-u is exactly 0 from u = 746 on: larger gaps are all the same
_SETTLED = 48.0  # and Q(u) is P to the last digit
_CHUNK = 2048
_COMPILED_TO, _COMPILED_FROM = 2, 512  # orders, and numbers of gaps, that are worth compiled loops


def intensity(order: int) -> float:
    """Return q, the intensity of the white noise that drives the last state."""
    return 2.0 ** (2 * order + 1) * factorial(order) ** 2 / factorial(2 * order)


@cache
def generator(order: int) -> np.ndarray:
    """Return N - I, the companion matrix of (s + 1)^(p + 1), (d, d)."""
    F = np.eye(order + 1, k=1)
    F[-1] = [-comb(order + 1, k) for k in range(order + 1)]
    return _frozen(F)


@cache
def stationary(order: int) -> np.ndarray:
    """Return the stationary covariance, (d, d)."""
    P = np.zeros((order + 1, order + 1))
    moment = 1.0  # m_n = Gamma(n + 1/2) Gamma(p + 1/2 - n) / (Gamma(1/2) Gamma(p + 1/2))
    for n in range(order + 1):
        for i in range(max(0, 2 * n - order), min(2 * n, order) + 1):
            P[i, 2 * n - i] = (-1) ** (i - n) * moment
        moment *= (n + 0.5) / (order - n - 0.5)
    return _frozen(P)


def correlation(order: int, u: np.ndarray) -> np.ndarray:
    """Return k(tau) / variance at the distances u = lam |tau| >= 0, any shape."""
    p = order
    weights = [
        factorial(p) * factorial(p + i) * 2 ** (p - i) / (factorial(2 * p) * factorial(i) * factorial(p - i))
        for i in range(p, -1, -1)
    ]
    return _powers(order, u) @ np.array(weights)


def transition(order: int, u: np.ndarray) -> np.ndarray:
    """Return A(u), (S, d, d); A(-u) is its inverse."""
    d = order + 1
    return (_powers(order, u) @ taylor(order).reshape(d, d * d)).reshape(*u.shape, d, d)


def noise(order: int, u: np.ndarray) -> np.ndarray:
    """Return Q(u) for u >= 0, (S, d, d): a sum of squares, so that its smallest variances keep their digits.

    Gauss-Legendre quadrature of g g' up to u = 2, where it is exact to rounding, and then doubling by
    Q(2u) = Q(u) + A(u) Q(u) A(u)'. Many gaps of low order are left to compiled series, equal to rounding.
    """
    d = order + 1
    if order <= _COMPILED_TO and len(u) >= _COMPILED_FROM:
        from hidamari.statespace import _matern_numba

        return _matern_numba.noise(u, taylor(order), stationary(order))
    Q = np.empty((len(u), d, d))
    for start in range(0, len(u), _CHUNK):
        part = slice(start, start + _CHUNK)
        Q[part] = _noise(order, np.minimum(u[part], _SETTLED))
    return Q


def stretched(order: int, u: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of A(u) and Q(u) by the log of the lengthscale, both (S, d, d); A is A(u)."""
    if order <= _COMPILED_TO and len(u) >= _COMPILED_FROM:
        from hidamari.statespace import _matern_numba

        return _matern_numba.stretched(u, generator(order), intensity(order), A)
    u = np.minimum(u, _FORGOTTEN)[:, None, None]
    last = A[:, :, -1]
    return -u * (generator(order) @ A), -intensity(order) * u * (last[:, :, None] * last[:, None, :])


def _noise(order: int, u: np.ndarray) -> np.ndarray:
    """Return Q(u) for one chunk."""
    nodes, weights = legendre(14)
    doublings = np.maximum(np.frexp(u)[1] - 1, 0)
    h = np.ldexp(u, -doublings)
    G = _powers(order, h[:, None] * nodes) @ taylor(order)[:, :, -1]  # (S, nodes, d)
    G *= np.sqrt(intensity(order) * h[:, None] * weights)[..., None]
    Q = G.swapaxes(1, 2) @ G
    for n in range(int(doublings.max())):
        more = doublings > n
        A = transition(order, h[more])
        Q[more] += A @ Q[more] @ A.swapaxes(1, 2)
        h[more] *= 2.0
    return (Q + Q.swapaxes(1, 2)) / 2.0


def _powers(order: int, u: np.ndarray) -> np.ndarray:
    """Return e^-u u^k for k = 0..p along a new last axis; e^-u goes first, so that no inf meets a 0."""
    u = np.minimum(u, _FORGOTTEN)
    terms = np.empty((*u.shape, order + 1))
    np.exp(-u, out=terms[..., 0])
    for k in range(order):
        np.multiply(terms[..., k], u, out=terms[..., k + 1])
    return terms


@cache
def taylor(order: int) -> np.ndarray:
    """Return N^k / k! for k = 0..p, (d, d, d)."""
    N = generator(order) + np.eye(order + 1)
    terms = [np.eye(order + 1)]
    for _ in range(order):
        terms.append(terms[-1] @ N)
    return _frozen(np.stack([term / factorial(k) for k, term in enumerate(terms)]))


@cache
def legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss-Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return _frozen((nodes + 1.0) / 2.0), _frozen(weights / 2.0)


def _frozen(array: np.ndarray) -> np.ndarray:
    """Make a shared array read-only."""
    array.flags.writeable = False
    return array
