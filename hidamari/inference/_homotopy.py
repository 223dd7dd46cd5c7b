"""The lasso by its homotopy: coefficients are linear in the strength between changes of the support.

With A the support and s its signs, g = r - R b is alpha s on A. As alpha falls by d, b_A rises by d u with
R_AA u = s, and g falls by d R_.A u, until a coefficient reaches 0 and leaves, or a slope reaches alpha and
its predictor joins. The Cholesky factor of R_AA follows in O(n^2) for n predictors held.
"""

import math

from numba import njit

from hidamari.inference._sums import OPTIONS

__all__ = ["advance"]

_DEPENDENT = 1e-11  # share of a predictor's variance left by those held, below which it does not join


@njit(**OPTIONS)
def _join(R, j, active, n, L):
    """Append predictor j to the factor; returns how many are held then, the same if j depends on them."""
    left = R[j, j]
    for k in range(n):
        value = R[j, active[k]]
        for i in range(k):
            value -= L[n, i] * L[k, i]
        value /= L[k, k]
        L[n, k] = value
        left -= value * value
    if not left > _DEPENDENT * R[j, j]:
        return n
    L[n, n] = math.sqrt(left)
    active[n] = j
    return n + 1


@njit(**OPTIONS)
def _leave(k, active, signs, n, L):
    """Take the k-th held predictor out of the factor by rotations."""
    for row in range(k, n - 1):
        active[row], signs[row] = active[row + 1], signs[row + 1]
        for i in range(row + 2):
            L[row, i] = L[row + 1, i]
    for i in range(k, n - 1):
        x, y = L[i, i], L[i, i + 1]
        length = math.hypot(x, y)
        c, s = x / length, y / length
        for row in range(i, n - 1):
            x, y = L[row, i], L[row, i + 1]
            L[row, i], L[row, i + 1] = c * x + s * y, c * y - s * x


@njit(**OPTIONS)
def _add(R, active, u, n, out):
    """out += sum_k u_k R_k over the held rows, four at a time: the loop that bounds the whole."""
    m = len(out)
    for k in range(0, n - 3, 4):
        i0, i1, i2, i3 = active[k], active[k + 1], active[k + 2], active[k + 3]
        u0, u1, u2, u3 = u[k], u[k + 1], u[k + 2], u[k + 3]
        for j in range(m):
            out[j] += u0 * R[i0, j] + u1 * R[i1, j] + u2 * R[i2, j] + u3 * R[i3, j]
    for k in range(n - n % 4, n):
        for j in range(m):
            out[j] += u[k] * R[active[k], j]


@njit(**OPTIONS)
def advance(R, r, alpha, to, active, signs, n, L, barred, b, g, u, fall):
    """Follow the solution from strength alpha to a smaller one; returns how many are held.

    In place: active, signs (m,) with n in use, L (m, m), barred (m,) for predictors that depend on those
    held, b and g (m,). u and fall (m,) are scratch. Returns -1 where the
    steps do not end.
    """
    m = len(r)
    gone = -1
    for _ in range(8 * m + 8):
        for k in range(n):
            value = signs[k]
            for i in range(k):
                value -= L[k, i] * u[i]
            u[k] = value / L[k, k]
        for k in range(n - 1, -1, -1):
            u[k] /= L[k, k]
            for i in range(k):
                u[i] -= L[k, i] * u[k]
        for j in range(m):
            fall[j] = 0.0
        _add(R, active, u, n, fall)
        step, leaves, joins, sign = alpha - to, -1, -1, 0.0
        for k in range(n):
            if u[k] * signs[k] < 0.0:
                d = max(-b[active[k]] / u[k], 0.0)
                if d < step:
                    step, leaves = d, k
        for j in range(m):
            if barred[j] or b[j] != 0.0 or j == gone or (n > 0 and active[n - 1] == j):
                continue
            for side in (1.0, -1.0):
                rate = 1.0 - side * fall[j]
                if rate > 0.0:
                    d = max((alpha - side * g[j]) / rate, 0.0)
                    if d < step:
                        step, leaves, joins, sign = d, -1, j, side
        for k in range(n):
            b[active[k]] += step * u[k]
        for j in range(m):
            g[j] -= step * fall[j]
        alpha -= step
        gone = -1
        if leaves >= 0:
            gone = active[leaves]
            b[gone] = 0.0
            _leave(leaves, active, signs, n, L)
            n -= 1
            for j in range(m):
                barred[j] = False
        elif joins >= 0:
            before = n
            n = _join(R, joins, active, n, L)
            signs[before] = sign
            barred[joins] = n == before
        else:
            # Sums of steps drift from what they sum to.
            for k in range(n):
                u[k] = -b[active[k]]
            for j in range(m):
                g[j] = r[j]
            _add(R, active, u, n, g)
            return n
    return -1
