"""Compiled sufficient statistics of segments: sums over rows, their prefixes, and the cost of given sums.

A segment's statistics are sums over its rows, in groups: weights (one column where every entry was observed,
else one a unit), values, and squares or products where the cost needs them:

=========  ==================================================  ===============================
kind       groups                                              cost
=========  ==================================================  ===============================
MEAN       n, x, one sum of squares q                          q - sum_j s_j^2 / n_j
SPREAD     n, x, x^2 by unit                                   n log(2 pi v) + n
COUNTS     exposure e, counts s                                2 (s - s log(s / e))
WAITS      weights b, values a                                 2 (b - b log(b / a))
ELLIPSE    n, x, lower triangle of x x'                        n (log det(2 pi V) + p)
AXES       the same, V about zero and not about the mean       the same
GRAM       n, lower triangle of (z, y)(z, y)'                  r, the residual sum of squares
NOISE      the same                                            n log(2 pi r / n) + n
=========  ==================================================  ===============================

Values are taken about `Rows.centre`, so that an offset of the data costs no digits, and prefixes are summed
with compensation, so that the difference of two is as good as a sum.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions

from hidamari.inference._rows import AXES, COUNTS, ELLIPSE, GRAM, MEAN, SPREAD, WAITS

__all__ = [
    "OPTIONS",
    "accumulate",
    "add_row",
    "between",
    "block_sums",
    "cost_of",
    "costs_of",
    "pair_costs",
    "row_sums",
]

OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    # Nothing is allocated here, so that arrays need not be counted, which costs more than a sum does. The
    # option is not in every version of numba.
    **({"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}),
}
IN_ORDER: dict[str, Any] = OPTIONS | {"fastmath": set()}  # reordering would undo a compensated sum
LOG_TAU = float(np.log(2.0 * np.pi))


@njit(**OPTIONS)
def add_row(rows, t, sums, sign):
    """sums <- sums + sign times the statistics of row t."""
    kind, shared, x, weight, centre = rows.kind, rows.shared, rows.x, rows.weight, rows.centre
    p = x.shape[1]
    n = 1 if shared else p
    at = t if weight.shape[0] > 1 else 0
    if kind >= ELLIPSE:
        for j in range(p):
            if np.isnan(x[t, j]):
                return
        sums[0] += sign
        first = 1
        if kind <= AXES:
            for j in range(p):
                sums[1 + j] += sign * (x[t, j] - centre[j])
            first += p
        for i in range(p):
            v = sign * (x[t, i] - centre[i])
            for j in range(i + 1):
                sums[first + j] += v * (x[t, j] - centre[j])
            first += i + 1
        return
    if shared:
        sums[0] += sign * weight[at, 0]
    squares = 0.0
    for j in range(p):
        v = x[t, j]
        if not shared:
            if np.isnan(v):
                continue
            sums[j] += sign * weight[at, j if weight.shape[1] > 1 else 0]
        v -= centre[j]
        sums[n + j] += sign * v
        if kind == MEAN:
            squares += v * v
        elif kind == SPREAD:
            sums[n + p + j] += sign * v * v
    if kind == MEAN:
        sums[n + p] += sign * squares


@njit(**OPTIONS, inline="always")
def _mean_cell(rows, start, end, sums):
    """Sums of complete rows for the mean: the loop that bounds the whole search."""
    x, centre = rows.x, rows.centre
    p = x.shape[1]
    squares = 0.0
    if p == 1:
        c = centre[0]
        total = 0.0
        for t in range(start, end):
            v = x[t, 0] - c
            total += v
            squares += v * v
        sums[1] += total
    else:
        # Four rows at a time: the sums are read and written once for all of them.
        whole = start + (end - start) // 4 * 4
        for t in range(start, whole, 4):
            for j in range(p):
                a, b = x[t, j] - centre[j], x[t + 1, j] - centre[j]
                c, d = x[t + 2, j] - centre[j], x[t + 3, j] - centre[j]
                sums[1 + j] += (a + b) + (c + d)
                squares += (a * a + b * b) + (c * c + d * d)
        for t in range(whole, end):
            for j in range(p):
                v = x[t, j] - centre[j]
                sums[1 + j] += v
                squares += v * v
    sums[0] += end - start
    sums[1 + p] += squares


@njit(**OPTIONS)
def block_sums(rows, edges, out):
    """Fill out (cells, m) with the statistics of the rows between neighbouring edges."""
    for cell in range(len(edges) - 1):
        for k in range(out.shape[1]):
            out[cell, k] = 0.0
    for cell in range(len(edges) - 1):
        if rows.kind == MEAN and rows.shared:
            _mean_cell(rows, edges[cell], edges[cell + 1], out[cell])
        else:
            for t in range(edges[cell], edges[cell + 1]):
                add_row(rows, t, out[cell], 1.0)


@njit(**IN_ORDER)
def accumulate(cells, prefix):
    """Prefix sums of cells into prefix (cells + 1, m), compensated (Neumaier)."""
    m = cells.shape[1]
    for k in range(m):
        total, lost = 0.0, 0.0
        prefix[0, k] = 0.0
        for i in range(cells.shape[0]):
            v = cells[i, k]
            s = total + v
            if abs(total) >= abs(v):
                lost += (total - s) + v
            else:
                lost += (v - s) + total
            total = s
            prefix[i + 1, k] = total + lost


@njit(**OPTIONS)
def row_sums(rows, first, last, out):
    """Fill out (last - first, m) with the statistics of single rows."""
    for t in range(first, last):
        for k in range(out.shape[1]):
            out[t - first, k] = 0.0
        add_row(rows, t, out[t - first], 1.0)


@njit(**OPTIONS)
def _triangle(s, first, scale, shift, n, work):
    """work <- the p x p matrix whose lower triangle starts at s[first], scaled, less its mean's square."""
    p = work.shape[0]
    for i in range(p):
        for j in range(i + 1):
            v = s[first + j] * scale
            if shift:
                v -= (s[1 + i] * scale) * (s[1 + j] * scale)
            work[i, j] = v
        first += i + 1


@njit(**OPTIONS)
def _log_det(work, least, n):
    """Log determinant by Cholesky in place; infinite when a pivot is lost in the rounding of n rows' sums."""
    p = work.shape[0]
    total = 0.0
    for j in range(p):
        diagonal = work[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= work[j, k] * work[j, k]
        if not (pivot > 1e-14 * diagonal and pivot * n > least[j]):
            return np.inf
        total += np.log(pivot)
        root = np.sqrt(pivot)
        work[j, j] = root
        for i in range(j + 1, p):
            v = work[i, j]
            for k in range(j):
                v -= work[i, k] * work[j, k]
            work[i, j] = v / root
    return total


@njit(**OPTIONS)
def _residual(work):
    """Last pivot of the Gram matrix of (z, y): the residual sum of squares; dependent columns drop out."""
    p = work.shape[0]
    pivot = 0.0
    for j in range(p):
        diagonal = work[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= work[j, k] * work[j, k]
        if j == p - 1:
            break
        root = np.sqrt(pivot) if pivot > 1e-12 * diagonal else np.inf
        work[j, j] = root
        for i in range(j + 1, p):
            v = work[i, j]
            for k in range(j):
                v -= work[i, k] * work[j, k]
            work[i, j] = v / root
    return max(pivot, 0.0)


@njit(**OPTIONS)
def cost_of(rows, s, work):
    """Cost of a segment with statistics s; work (p, p) is scratch."""
    kind, shared = rows.kind, rows.shared
    p = rows.x.shape[1]
    n = 1 if shared else p
    total = 0.0
    if kind == MEAN:
        if shared:
            for j in range(p):
                total += s[1 + j] * s[1 + j]
            total = s[1 + p] - (total / s[0] if s[0] > 0.0 else 0.0)
        else:
            for j in range(p):
                if s[j] > 0.0:
                    total += s[p + j] * s[p + j] / s[j]
            total = s[p + p] - total
    elif kind == SPREAD:
        for j in range(p):
            w = s[0] if shared else s[j]
            if w > 0.0:
                mean = s[n + j] / w
                v = s[n + p + j] / w - mean * mean if w > 1.0 else rows.lone[j]
                most = max(v, rows.least[j])
                if most > 0.0:
                    total += w * (np.log(most) + LOG_TAU + v / most)
    elif kind == COUNTS:
        for j in range(p):
            b = s[n + j]
            if b > 0.0:
                total += 2.0 * (b - b * np.log(b / (s[0] if shared else s[j])))
    elif kind == WAITS:
        for j in range(p):
            b = s[0] if shared else s[j]
            if b > 0.0:
                a = max(s[n + j], b * rows.least[j])
                if a > 0.0:
                    total += 2.0 * (b * s[n + j] / a - b * np.log(b / a))
    elif kind <= AXES:
        if s[0] > 0.0:
            _triangle(s, 1 + p, 1.0 / s[0], kind == ELLIPSE, s[0], work)
            total = s[0] * (_log_det(work, rows.least, s[0]) + p * (LOG_TAU + 1.0))
    elif s[0] > 0.0:
        _triangle(s, 1, 1.0, False, s[0], work)
        total = _residual(work)
        if kind != GRAM:
            v = total / s[0]
            most = max(v, rows.least[p - 1])
            total = s[0] * (np.log(most) + LOG_TAU + v / most) if most > 0.0 else 0.0
    return total


@njit(**OPTIONS)
def _other(rows, prefix, i, j, diff, work):
    """Cost of the segment between prefixes i and j, of any kind."""
    for k in range(len(diff)):
        diff[k] = prefix[j, k] - prefix[i, k]
    return cost_of(rows, diff, work)


@njit(**OPTIONS, inline="always")
def between(rows, prefix, i, j, diff, work):
    """Cost of the segment between prefixes i and j; diff (m,) is scratch.

    The mean has its own few lines, which are written into the loops: a call costs more than they do.
    """
    if rows.kind == MEAN and rows.shared:
        total = 0.0
        for k in range(1, prefix.shape[1] - 1):
            v = prefix[j, k] - prefix[i, k]
            total += v * v
        last = prefix.shape[1] - 1
        return prefix[j, last] - prefix[i, last] - total / max(prefix[j, 0] - prefix[i, 0], 1.0)
    return _other(rows, prefix, i, j, diff, work)


@njit(**OPTIONS)
def pair_costs(rows, prefix, starts, ends, out, diff, work):
    """Costs of the segments [starts, ends), as indices into prefix; diff (m,) and work (p, p) are scratch."""
    for k in range(len(out)):
        out[k] = between(rows, prefix, starts[k], ends[k], diff, work)


@njit(**OPTIONS)
def costs_of(rows, sums, out, work):
    """Costs of segments with statistics sums (n, m); work (p, p) is scratch."""
    for k in range(len(out)):
        out[k] = cost_of(rows, sums[k], work)
