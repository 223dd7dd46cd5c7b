"""Compiled searches over prefix sums: the dynamic programme, local scans, and seeded intervals.

Positions are row numbers `rows_at` of a grid, prefixes the sums of all rows before each. A change point is
the first row of the new segment.
"""

import numpy as np
from numba import njit

from hidamari.inference._rows import MEAN
from hidamari.inference._sums import OPTIONS, add_row, between, cost_of

__all__ = ["best_splits", "dynamic", "prefix_at", "scan", "seeds"]


@njit(**OPTIONS)
def dynamic(rows, prefix, rows_at, penalty, minimum, prune, best, last, value, active, better, diff, work):
    """Best changes on the grid: F_r = min over l of F_l + C(l, r) + penalty, F_0 = -penalty.

    Fills best (n + 1,) with F and last with the best l of each r, and returns the number of costs evaluated;
    value, active, better (n + 1,), diff (m,) and work (p, p) are scratch. A candidate l that is worse at r
    than r itself, F_l + C(l, r) >= F_r, can never win at an r' with r as an allowed last change, and costs
    fall when a segment is split: it is dropped once r' - r reaches the minimum length, not earlier.
    """
    n = len(rows_at) - 1
    for r in range(n + 1):
        best[r], last[r] = np.inf, -1
    best[0] = -penalty
    alive, entering, evaluations = 0, 0, 0
    for r in range(1, n + 1):
        while entering < r and rows_at[r] - rows_at[entering] >= minimum:
            if best[entering] < np.inf:
                active[alive] = entering
                better[alive] = -1
                alive += 1
            entering += 1
        kept = 0
        for k in range(alive):
            by = better[k]
            if by < 0 or rows_at[r] - rows_at[by] < minimum:
                l = active[k]
                active[kept], better[kept] = l, by
                value[kept] = best[l] + between(rows, prefix, l, r, diff, work)
                if value[kept] < best[r]:
                    best[r], last[r] = value[kept], l
                kept += 1
        alive = kept
        evaluations += alive
        if prune:
            for k in range(alive):
                if value[k] >= best[r] + penalty and value[k] < np.inf and better[k] < 0:
                    better[k] = r
        best[r] += penalty
    return evaluations


@njit(**OPTIONS)
def prefix_at(rows, prefix, rows_at, wanted, out):
    """Sums of all rows before each wanted row, from the grid's prefix and the few rows after it."""
    for k in range(len(wanted)):
        cell = np.searchsorted(rows_at, wanted[k], side="right") - 1
        for i in range(prefix.shape[1]):
            out[k, i] = prefix[cell, i]
        for t in range(rows_at[cell], wanted[k]):
            add_row(rows, t, out[k], 1.0)


@njit(**OPTIONS)
def _mean_scan(rows, start, end, first, stop, minimum, left, right):
    """Best change in [first, stop) for complete rows and the mean, by the sums of either side.

    With L and R the sums left and right of it, the split gains sum_j L_j^2 / n_L + R_j^2 / n_R.
    """
    x, centre = rows.x, rows.centre
    p = x.shape[1]
    best, where = -np.inf, -1
    first_allowed, stop_allowed = max(first, start + minimum), min(stop, end - minimum + 1)
    if p == 1:
        # About the mean of both sides the gain is L^2 n / (n_L n_R): compared without a division.
        c, a = centre[0], left[1]
        n = float(end - start)
        mean = (left[1] + right[1]) / n
        best = 0.0
        for t in range(first, stop):
            n_left = float(t - start)
            v = a - n_left * mean
            size = n_left * (n - n_left)
            if v * v > best * size and t >= first_allowed and t < stop_allowed:
                best, where = v * v / size, t
            a += x[t, 0] - c
        return where if where >= 0 or first_allowed >= stop_allowed else first_allowed
    for t in range(first, stop):
        if t >= first_allowed and t < stop_allowed:
            a, b = 0.0, 0.0
            for j in range(1, p + 1):
                a += left[j] * left[j]
                b += right[j] * right[j]
            gain = a / (t - start) + b / (end - t)
            if gain > best:
                best, where = gain, t
        for j in range(p):
            v = x[t, j] - centre[j]
            left[1 + j] += v
            right[1 + j] -= v
    return where


@njit(**OPTIONS)
def scan(rows, starts, before, ends, after, first, at_first, stop, minimum, where, left, right, work):
    """Best change in each window [first, stop) of rows between starts and ends, every row tried.

    before, after and at_first (K, m) are the sums of all rows before starts, ends and first; the place found
    goes to `where`, -1 where none is allowed. left, right (m,) and work (p, p) are scratch.
    """
    m = before.shape[1]
    for k in range(len(starts)):
        for i in range(m):
            left[i] = at_first[k, i] - before[k, i]
            right[i] = after[k, i] - at_first[k, i]
        best = np.inf
        where[k] = -1
        if rows.kind == MEAN and rows.shared:
            where[k] = _mean_scan(rows, starts[k], ends[k], first[k], stop[k], minimum, left, right)
            continue
        for t in range(first[k], stop[k]):
            if t - starts[k] >= minimum and ends[k] - t >= minimum:
                total = cost_of(rows, left, work) + cost_of(rows, right, work)
                if total < best:
                    best = total
                    where[k] = t
            add_row(rows, t, left, 1.0)
            add_row(rows, t, right, -1.0)


@njit(**OPTIONS)
def _mean_split(prefix, rows_at, a, b, step, minimum, diff):
    """`_split` for the mean of complete rows.

    With L the sums left of k, about the mean of all n rows, the split gains sum_j L_j^2 n / (n_L n_R).
    """
    p = prefix.shape[1] - 2
    n = rows_at[b] - rows_at[a]
    for j in range(1, p + 1):
        diff[j] = (prefix[b, j] - prefix[a, j]) / n
    best, place = 0.0, -1
    if p == 1:
        start, mean = prefix[a, 1], diff[1]
        for k in range(a + step, b, step):
            left = rows_at[k] - rows_at[a]
            v = prefix[k, 1] - start - left * mean
            if v * v >= best * left * (n - left) and left >= minimum and n - left >= minimum:
                best, place = v * v / (left * (n - left)), k
        return (best * n if place >= 0 else -np.inf), place
    for k in range(a + step, b, step):
        left = rows_at[k] - rows_at[a]
        if left < minimum or n - left < minimum:
            continue
        total = 0.0
        for j in range(1, p + 1):
            v = prefix[k, j] - prefix[a, j] - left * diff[j]
            total += v * v
        if total >= best * left * (n - left):
            best, place = total / (left * (n - left)), k
    return (best * n if place >= 0 else -np.inf), place


@njit(**OPTIONS)
def _split(rows, prefix, rows_at, a, b, step, minimum, diff, work):
    """Best grid point between a and b, every step-th tried, and what the split gains."""
    if rows.kind == MEAN and rows.shared:
        return _mean_split(prefix, rows_at, a, b, step, minimum, diff)
    whole = between(rows, prefix, a, b, diff, work)
    gain, place = -np.inf, -1
    for k in range(a + step, b, step):
        if rows_at[k] - rows_at[a] < minimum or rows_at[b] - rows_at[k] < minimum:
            continue
        g = whole - between(rows, prefix, a, k, diff, work) - between(rows, prefix, k, b, diff, work)
        if g > gain:
            gain, place = g, k
    return gain, place


@njit(**OPTIONS)
def best_splits(rows, prefix, rows_at, starts, ends, minimum, gain, place, diff, work):
    """Best single change inside each grid interval [starts, ends]."""
    for k in range(len(starts)):
        gain[k], place[k] = _split(rows, prefix, rows_at, starts[k], ends[k], 1, minimum, diff, work)


@njit(**OPTIONS, inline="always")
def _mean_hit(prefix, rows_at, a, b, step, threshold):
    """Whether a split of [a, b] at one of the places a + step, a + 2 step, a + 3 step gains the threshold.

    For the mean of complete rows, without a division or a branch: few intervals hit.
    """
    n = float(rows_at[b] - rows_at[a])
    k1, k2, k3 = a + step, min(a + 2 * step, b - 1), min(a + 3 * step, b - 1)
    n1, n2, n3 = (
        float(rows_at[k1] - rows_at[a]),
        float(rows_at[k2] - rows_at[a]),
        float(rows_at[k3] - rows_at[a]),
    )
    g1, g2, g3 = 0.0, 0.0, 0.0
    for j in range(1, prefix.shape[1] - 1):
        start = prefix[a, j]
        whole = prefix[b, j] - start
        v1 = (prefix[k1, j] - start) * n - n1 * whole
        v2 = (prefix[k2, j] - start) * n - n2 * whole
        v3 = (prefix[k3, j] - start) * n - n3 * whole
        g1 += v1 * v1
        g2 += v2 * v2
        g3 += v3 * v3
    most = threshold * n
    return (g1 > most * n1 * (n - n1)) | (g2 > most * n2 * (n - n2)) | (g3 > most * n3 * (n - n3))


@njit(**OPTIONS)
def seeds(rows, prefix, rows_at, widest, threshold, minimum, found, diff, work):
    """Mark grid points whose split of some short interval gains more than the threshold.

    Intervals are 2, 4, 8, ... cells long up to widest, each half over its neighbour, and are split at up to
    three places: about ten costs a cell in all. Finds the segments that hide inside the cells of a coarser
    grid.
    """
    n = len(rows_at) - 1
    mean = rows.kind == MEAN and rows.shared
    length = 2
    while length <= min(widest, n):
        step = max(1, length // 4)
        for a in range(0, n - length + 1, length // 2):
            if not mean or _mean_hit(prefix, rows_at, a, a + length, step, threshold):
                gain, place = _split(rows, prefix, rows_at, a, a + length, step, minimum, diff, work)
                if gain > threshold:
                    found[place] = True
        length *= 2
