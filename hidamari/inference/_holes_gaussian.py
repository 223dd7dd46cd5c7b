"""Compiled fit of a Gaussian to rows that miss entries: one step of expectation and maximisation.

Parameters are the mean, about the centre of the rows, and the lower triangle of the covariance.
"""

import numpy as np
from numba import njit

from hidamari.inference._holes import LOOPS, invert, pick, rare_rows
from hidamari.inference._rows import ELLIPSE

__all__ = ["gaussian_start", "gaussian_step"]

LOG_TAU = float(np.log(2.0 * np.pi))
LOST = 1e-12  # pivot of a covariance that is taken for singular, of its diagonal


@njit(**LOOPS)
def _scatter(s, p, i, j):
    """Entry (i, j) of the lower triangle of products in sums with means."""
    return s[1 + p + i * (i + 1) // 2 + j] if i >= j else s[1 + p + j * (j + 1) // 2 + i]


@njit(**LOOPS)
def _expect_pattern(s, mean, K, index, m, C, T, V, total, R, D):
    """Add the expected scatter of the rows with sums s about the mean: T filled in, V what varies."""
    p = len(mean)
    n = s[0]
    # R = K_MO A_OO, then D = -C R, the expected products of what is missing and what is not.
    for a in range(m, p):
        i = index[a]
        total[i] += s[1 + i] - n * mean[i]
        for b in range(m, a + 1):
            j = index[b]
            v = _scatter(s, p, i, j) - s[1 + i] * mean[j] - mean[i] * (s[1 + j] - n * mean[j])
            T[max(i, j), min(i, j)] += v
            R[a, b] = R[b, a] = v
    for a in range(m):
        for b in range(m, p):
            v = 0.0
            for c in range(m, p):
                v += K[index[a], index[c]] * R[c, b]
            D[a, b] = v
    for b in range(m, p):
        for a in range(m):
            v = 0.0
            for c in range(m):
                v -= C[a, c] * D[c, b]
            R[a, b] = v
            T[max(index[a], index[b]), min(index[a], index[b])] += v
    # R K_OM, then times -C from the right.
    for a in range(m):
        for b in range(m):
            v = 0.0
            for c in range(m, p):
                v += R[a, c] * K[index[c], index[b]]
            D[a, b] = v
    for a in range(m):
        for b in range(a + 1):
            v = 0.0
            for c in range(m):
                v -= D[a, c] * C[c, b]
            T[index[a], index[b]] += v
            V[index[a], index[b]] += n * C[a, b]
    for a in range(m):
        v = 0.0
        for b in range(m):
            for c in range(m, p):
                i = index[c]
                v -= C[a, b] * K[index[b], i] * (s[1 + i] - n * mean[i])
        total[index[a]] += v


@njit(**LOOPS)
def _expect_row(x, centre, mean, K, index, m, C, T, V, total, z, u):
    """`_expect_pattern` of one row x (p,)."""
    p = len(mean)
    for a in range(m, p):
        i = index[a]
        z[i] = x[i] - centre[i] - mean[i]
    for a in range(m):
        v = 0.0
        for c in range(m, p):
            v += K[index[a], index[c]] * z[index[c]]
        u[a] = v
    for a in range(m):
        v = 0.0
        for b in range(m):
            v -= C[a, b] * u[b]
        z[index[a]] = v
        for b in range(a + 1):
            V[index[a], index[b]] += C[a, b]
    for i in range(p):
        total[i] += z[i]
        for j in range(i + 1):
            T[i, j] += z[i] * z[j]


@njit(**LOOPS)
def gaussian_step(holes, room, n, start, end, old, new):
    """One step of the climb from (mean, triangle of the covariance), and the cost where it began."""
    p = holes.x.shape[1]
    A, index = room.matrices, room.index
    K, T, V, C, R, D = A[0], A[1], A[2], A[3], A[4], A[5]
    total, z, u = A[6, 0], A[7, 0], A[8, 0]
    mean = old[:p]
    at = p
    for i in range(p):
        for j in range(i + 1):
            K[i, j] = K[j, i] = old[at]
            at += 1
    log_det = invert(K, p, LOST)
    if log_det == np.inf:
        return np.inf
    for i in range(p):
        total[i] = 0.0
        for j in range(p):
            T[i, j] = V[i, j] = 0.0
    value = 0.0
    for k in range(room.local.shape[0]):
        count = room.local[k, 0]
        if count > 0.5:
            m, more = pick(K, holes.missing[k], index, C)
            value += count * (log_det + more + (p - m) * LOG_TAU)
            _expect_pattern(room.local[k], mean, K, index, m, C, T, V, total, R, D)
    first, last = rare_rows(holes, start, end)
    for r in range(first, last):
        m, more = pick(K, holes.missing[room.local.shape[0] + r], index, C)
        value += log_det + more + (p - m) * LOG_TAU
        _expect_row(holes.x[holes.rare[r]], holes.centre, mean, K, index, m, C, T, V, total, z, u)
    # What is filled in makes the quadratic form of the observed alone.
    for i in range(p):
        value += K[i, i] * T[i, i]
        for j in range(i):
            value += 2.0 * K[i, j] * T[i, j]
    free = 1.0 if holes.kind == ELLIPSE else 0.0
    at = p
    for i in range(p):
        new[i] = mean[i] + free * total[i] / n
        for j in range(i + 1):
            new[at] = (T[i, j] + V[i, j]) / n - free * (total[i] / n) * (total[j] / n)
            at += 1
    return value


@njit(**LOOPS)
def _least(holes, count):
    """Rows that a covariance needs: fewer lie on a plane, where the density has no bound."""
    return (count > 0.5).sum() + (1 if holes.kind == ELLIPSE else 0)


@njit(**LOOPS)
def _complete(holes, room, count, first, last):
    """Rows of a segment that miss none of the columns that it shows."""
    found = 0.0
    for k in range(room.local.shape[0]):
        if not np.any(holes.missing[k] & (count > 0.5)):
            found += room.local[k, 0]
    for r in range(first, last):
        if not np.any(holes.missing[room.local.shape[0] + r] & (count > 0.5)):
            found += 1.0
    return found


@njit(**LOOPS)
def gaussian_start(holes, room, start, end, theta, scale):
    """Means and variances of what columns show, no covariances; tells whether a covariance can be had."""
    p = holes.x.shape[1]
    count, total, square = room.matrices[0, 0], room.matrices[1, 0], room.matrices[2, 0]
    patterns = room.local.shape[0]
    first, last = rare_rows(holes, start, end)
    for j in range(p):
        count[j] = total[j] = square[j] = 0.0
        for k in range(patterns):
            if not holes.missing[k, j]:
                count[j] += room.local[k, 0]
                total[j] += room.local[k, 1 + j]
                square[j] += _scatter(room.local[k], p, j, j)
        for r in range(first, last):
            if not holes.missing[patterns + r, j]:
                v = holes.x[holes.rare[r], j] - holes.centre[j]
                count[j] += 1.0
                total[j] += v
                square[j] += v * v
    if _complete(holes, room, count, first, last) < _least(holes, count):
        return False
    at = p
    for i in range(p):
        for j in range(i):
            theta[at + j] = 0.0
        theta[i], variance = 0.0, 1.0
        if count[i] > 0.5:
            if holes.kind == ELLIPSE:
                theta[i] = total[i] / count[i]
            left = square[i] - theta[i] * total[i]
            variance = left / count[i]
            if not (left > LOST * square[i] and left > holes.least[i]):
                return False
        theta[at + i] = variance
        at += i + 1
        scale[i] = 1.0 / np.sqrt(variance)
    at = p
    for i in range(p):
        for j in range(i + 1):
            scale[at] = scale[i] * scale[j]
            at += 1
    return True
