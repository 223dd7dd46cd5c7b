"""Compiled steps of the DCDP procedure: penalised local refinement, its last scan, losses held out."""

import numpy as np
from numba import njit

from hidamari.inference._lasso import LOOPS, descend_pair, estimate, least, loss, unpack
from hidamari.inference._rows import AXES, MEAN
from hidamari.inference._sums import OPTIONS, add_row

__all__ = ["held_out", "last_scan", "local_refinement"]


@njit(**OPTIONS)
def _means(left, right, zeta, theta1, theta2):
    """Means of two sets of rows that are zero together, and their loss with the penalty.

    With u_i = sqrt(n_i) mu_i and v_i = sqrt(n_i) mean_i a column has the loss |u - v|^2 + zeta |u|, up to a
    constant: u = v (1 - zeta / (2 |v|)), or zero.
    """
    p = len(left) - 2
    n1, n2 = left[0], right[0]
    total = left[1 + p] + right[1 + p]
    for j in range(p):
        square = left[1 + j] ** 2 / n1 + right[1 + j] ** 2 / n2
        size = np.sqrt(square)
        keep = max(0.0, 1.0 - 0.5 * zeta / size) if size > 0.0 else 0.0
        theta1[j], theta2[j] = keep * left[1 + j] / n1, keep * right[1 + j] / n2
        total -= square - (1.0 - keep) ** 2 * square - zeta * keep * size
    return total


@njit(**LOOPS)
def _coefficients(left, right, zeta, tolerance, theta1, theta2, A, B, c1, c2, g1, g2):
    """Coefficients of two sets of rows that are zero together, beginning at theta, and their penalty."""
    p = A.shape[0]
    k = p - 1
    unpack(left, 1, 1.0, A)
    unpack(right, 1, 1.0, B)
    for j in range(k):
        c1[j], c2[j] = A[k, j], B[k, j]
    scale = tolerance * (A[k, k] + B[k, k])
    n1, n2 = left[0], right[0]
    descend_pair(
        A[:k, :k], c1[:k], n1, B[:k, :k], c2[:k], n2, zeta, scale, theta1[:k], theta2[:k], g1[:k], g2[:k]
    )
    theta1[k], theta2[k] = 0.0, 0.0
    total = 0.0
    for j in range(k):
        total += zeta * np.sqrt(n1 * theta1[j] ** 2 + n2 * theta2[j] ** 2)
    return total


@njit(**LOOPS)
def local_refinement(
    rows, before, after, start, end, first, stop, zeta, group, ridge, tolerance, theta1, theta2
):
    """Best change in [first, stop) of the rows [start, end), and its estimates into theta; -1 without one.

    before and after (m,) are the sums of all rows before start and end. Group: estimates that are zero
    together, penalised by zeta in the objective; else each side with the penalty zeta, which is not counted.
    Covariances have no penalty.
    """
    kind = rows.kind
    p, m = rows.x.shape[1], len(before)
    penalty = 0.0 if kind == AXES else zeta
    left, right = np.zeros(m), np.empty(m)
    A, B, C = np.empty((p, p)), np.empty((p, p)), np.empty((p, p))
    u, v, g1, g2 = np.empty(p), np.empty(p), np.empty(p), np.empty(p)
    theta1[:] = 0.0
    theta2[:] = 0.0
    for t in range(start, first):
        add_row(rows, t, left, 1.0)
    best, where = np.inf, -1
    for row in range(first, stop + 1):
        if row == stop:
            if where < 0:
                break
            # Once more, for the estimates of the best.
            left[:] = 0.0
            for t in range(start, where):
                add_row(rows, t, left, 1.0)
        for k in range(m):
            right[k] = after[k] - before[k] - left[k]
        if group and kind == MEAN:
            value = _means(left, right, zeta, theta1, theta2)
        elif group and kind != AXES:
            value = _coefficients(left, right, zeta, tolerance, theta1, theta2, A, B, u, v, g1, g2)
            value += loss(kind, True, left, theta1, p) + loss(kind, True, right, theta2, p)
        elif row == stop:
            estimate(kind, True, left, penalty, False, ridge, tolerance, theta1, A, B, C, u, v)
            estimate(kind, True, right, penalty, False, ridge, tolerance, theta2, A, B, C, u, v)
            break
        else:
            value = least(kind, True, left, penalty, False, ridge, tolerance, theta1, A, B, C, u, v)
            value += least(kind, True, right, penalty, False, ridge, tolerance, theta2, A, B, C, u, v)
        if row < stop and value < best:
            best, where = value, row
        if row < stop:
            add_row(rows, row, left, 1.0)
    return where


@njit(**OPTIONS)
def _row_loss(kind, x, theta):
    """Loss of one row."""
    p = len(x)
    if kind == AXES:
        total = theta[p * p]
        for i in range(p):
            v = 0.0
            for j in range(p):
                v += theta[i * p + j] * x[j]
            total += v * x[i]
        return total
    total = 0.0
    if kind == MEAN:
        for j in range(p):
            total += (x[j] - theta[j]) ** 2
        return total
    total = x[p - 1]
    for j in range(p - 1):
        total -= x[j] * theta[j]
    return total * total


@njit(**OPTIONS)
def last_scan(rows, start, end, theta1, theta2):
    """Best change in [start, end) with theta1 before it and theta2 after it."""
    total, best, where = 0.0, np.inf, start + 1
    for t in range(start, end - 1):
        total += _row_loss(rows.kind, rows.x[t], theta1) - _row_loss(rows.kind, rows.x[t], theta2)
        if total < best:
            best, where = total, t + 1
    return where


@njit(**LOOPS)
def held_out(kind, lengths, train, test, shortest, penalty, scaled, ridge, tolerance, p):
    """Loss of the test rows of each segment at the estimates of its training rows.

    train and test (segments, m) are sums. Segments shorter than the shortest are taken at zero parameters,
    or unit covariance; those of no length count nothing.
    """
    theta = np.zeros(p * p + 1)
    A, B, C, u, v = np.empty((p, p)), np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty(p)
    total = 0.0
    for k in range(len(lengths)):
        if lengths[k] <= 0:
            continue
        theta[:] = 0.0
        if lengths[k] >= shortest:
            if not estimate(kind, True, train[k], penalty, scaled, ridge, tolerance, theta, A, B, C, u, v):
                return np.inf
        elif kind == AXES:
            for j in range(p):
                theta[j * p + j] = 1.0
        total += loss(kind, True, test[k], theta, p)
    return total
