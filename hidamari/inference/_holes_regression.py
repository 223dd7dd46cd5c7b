"""Compiled regression on predictors of which some are missing: one step of expectation and maximisation.

Parameters are the coefficients and the noise variance. Missing predictors stand at their means given those
of their row, and have the precision K given them, which segments share.
"""

import numpy as np
from numba import njit

from hidamari.inference._holes import LOOPS, add_values, pick, rare_rows
from hidamari.inference._rows import NOISE

__all__ = ["regression_start", "regression_step"]

LOG_TAU = float(np.log(2.0 * np.pi))
LOST = 1e-14  # residual sum of squares that rounding leaves of a perfect fit, of that of the response
DEPENDENT = 1e-12  # pivot of a predictor that is a sum of others, of its diagonal


@njit(**LOOPS)
def _solve(A, c, p, b):
    """b <- A^-1 c for the lower triangle of A (destroyed); columns that depend on those before get 0."""
    for j in range(p):
        diagonal = A[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= A[j, k] * A[j, k]
        root = np.sqrt(pivot) if pivot > DEPENDENT * diagonal else np.inf
        A[j, j] = root
        v = c[j]
        for k in range(j):
            v -= A[j, k] * b[k]
        b[j] = v / root
        for i in range(j + 1, p):
            v = A[i, j]
            for k in range(j):
                v -= A[i, k] * A[j, k]
            A[i, j] = v / root
    for j in range(p - 1, -1, -1):
        v = b[j]
        for k in range(j + 1, p):
            v -= A[k, j] * b[k]
        b[j] = v / A[j, j]


@njit(**LOOPS)
def _product(s, i, j):
    """Entry (i, j) of the lower triangle of products in sums without means."""
    return s[1 + i * (i + 1) // 2 + j] if i >= j else s[1 + j * (j + 1) // 2 + i]


@njit(**LOOPS)
def _regress_rows(s, b, noise, index, m, C, G, c, u, v):
    """Add the expected Gram matrix of rows with sums s, their missing predictors filled in; cost and noise.

    With e = y - b'z and w = C b, tau = noise + b'w, the missing are z + w e / tau on average, with covariance
    C - w w' / tau.
    """
    q = len(b)
    n = s[0]
    w, g = u, v
    spread = 0.0
    for j in range(q):
        w[j] = 0.0
    for a in range(m):
        t = 0.0
        for k in range(m):
            t += C[a, k] * b[index[k]]
        w[index[a]] = t
        spread += t * b[index[a]]
    tau = noise + spread
    # g = sum of z e, and the sums of y e and e^2.
    ye = _product(s, q, q)
    for i in range(q):
        ye -= b[i] * _product(s, q, i)
    ee = ye
    for i in range(q):
        t = _product(s, q, i)
        for j in range(q):
            t -= _product(s, i, j) * b[j]
        g[i] = t
        ee -= b[i] * t
    extra = ee / (tau * tau) - n / tau
    for i in range(q):
        c[i] += _product(s, q, i) + w[i] * ye / tau
        for j in range(i + 1):
            G[i, j] += _product(s, i, j) + (w[i] * g[j] + g[i] * w[j]) / tau + w[i] * w[j] * extra
    for a in range(m):
        for k in range(m):
            if index[a] >= index[k]:
                G[index[a], index[k]] += n * C[a, k]
    # e less what was filled in, and its variance.
    left = ee * (noise / tau) ** 2 + n * (spread - spread * spread / tau)
    return n * np.log(tau) + ee / tau, left


@njit(**LOOPS)
def regression_step(holes, room, n, start, end, old, new):
    """One step of the climb from (coefficients, noise variance), and the cost where it began."""
    q = holes.x.shape[1] - 1
    A, index = room.matrices, room.index
    G, C, c, u, v = A[0], A[1], A[2, 0], A[3, 0], A[4, 0]
    single = room.single
    b, noise = old[:q], old[q]
    own = holes.kind == NOISE
    for i in range(q):
        c[i] = 0.0
        for j in range(i + 1):
            G[i, j] = 0.0
    value, left = 0.0, 0.0
    for k in range(room.local.shape[0]):
        if room.local[k, 0] > 0.5:
            m, _ = pick(holes.precision, holes.missing[k, :q], index, C)
            price, rest = _regress_rows(room.local[k], b, noise, index, m, C, G, c, u, v)
            value, left = value + price, left + rest
    first, last = rare_rows(holes, start, end)
    for r in range(first, last):
        single[:] = 0.0
        add_values(holes, holes.rare[r], single, 1.0)
        m, _ = pick(holes.precision, holes.missing[room.local.shape[0] + r, :q], index, C)
        price, rest = _regress_rows(single, b, noise, index, m, C, G, c, u, v)
        value, left = value + price, left + rest
    b = new[:q]
    if own:
        # Residuals of the new coefficients, about those of the old: left - (b - old)' (gradient).
        for i in range(q):
            u[i] = c[i]
            for j in range(q):
                u[i] -= (G[i, j] if i >= j else G[j, i]) * old[j]
        _solve(G, c, q, b)
        for i in range(q):
            left -= (b[i] - old[i]) * u[i]
        new[q] = max(left / n, holes.least[q])
        return value + n * LOG_TAU if noise > 0.0 else np.inf
    _solve(G, c, q, b)
    new[q] = 1.0
    return value


@njit(**LOOPS)
def regression_start(holes, room, start, end, theta, scale):
    """Least squares with the missing predictors at their means; False where the fit is perfect."""
    q = holes.x.shape[1] - 1
    G, c, all_ = room.matrices[0], room.matrices[2, 0], room.single
    for i in range(len(all_)):
        all_[i] = 0.0
        for k in range(room.local.shape[0]):
            all_[i] += room.local[k, i]
    first, last = rare_rows(holes, start, end)
    for r in range(first, last):
        add_values(holes, holes.rare[r], all_, 1.0)
    for i in range(q):
        c[i] = _product(all_, q, i)
        for j in range(i + 1):
            G[i, j] = _product(all_, i, j)
        scale[i] = np.sqrt(G[i, i])
    _solve(G, c, q, theta[:q])
    theta[q], scale[q] = 1.0, 0.0
    if holes.kind == NOISE:
        left = _product(all_, q, q)
        for i in range(q):
            left -= theta[i] * _product(all_, q, i)
        theta[q] = max(left / all_[0], holes.least[q])
        scale[q] = all_[0] / max(left, holes.least[q] * all_[0])
        for i in range(q):
            scale[i] /= np.sqrt(theta[q])
        return left > LOST * _product(all_, q, q) or holes.least[q] > 0.0
    return True
